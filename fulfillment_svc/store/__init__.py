"""All the SQL, for sets, over one connection.

workspace.py     the fulfilments of orders: their lock, load and save for a set of commands
orders.py        the table of orders: a row for each order, which a write locks, and remaining units
fulfillments.py  whole fulfilments: their load with all their parts, save, lists and history
picklists.py     the lines of fulfilments
packages.py      packages and their items
void_labels.py   the units in the parcels of void labels
"""
