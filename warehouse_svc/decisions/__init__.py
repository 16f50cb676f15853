"""The deciders: how a command changes stock levels and the reservations of an order.

Pure: no I/O, no clock, no randomness.

deciders.py        the table of deciders
stock.py           receive, adjust
reservations.py    reserve, renew, confirm, release, expire, apply allocations, close an attempt
fulfillment.py     reports of the fulfilment service: units shipped, back on the shelf, not found,
                   spoiled; and the replacement of spoiled units
returns.py         units that returns bring back
sourcing.py        the choice of the warehouses that serve an order
posting.py         balances, units, rows of the ledger and domain events, changed together
"""
