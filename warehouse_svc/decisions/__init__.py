"""The decisions: what a command makes of stock and of what is held for an order.

Pure: no I/O, no clock, no chance.

deciders.py        the table of deciders
stock.py           receive, adjust
reservations.py    reserve, renew, confirm, release, expire, units cancelled, and the end of an
                   attempt
work.py            what fulfilment reports: units shipped, back on the shelf, not found, spoiled;
                   and spoiled ones replaced
returns.py         what returns bring back
sourcing.py        which warehouses serve an order
books.py           balances, units, ledger and facts, moved together
"""
