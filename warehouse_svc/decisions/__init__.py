"""The deciders: what a command changes in stock levels and in the reservations of an order.

Pure: no I/O, no clock, no randomness.

deciders.py        the table of deciders
stock.py           receive, adjust
reservations.py    reserve, renew, confirm, release, expire, apply allocations, close an attempt
fulfillment.py     what fulfilment reports: units shipped, back on the shelf, not found, spoiled;
                   and the replacement of spoiled units
returns.py         units that returns bring back
sourcing.py        which warehouses serve an order
posting.py         balances, units, rows of the ledger and domain events, changed together
"""
