"""All the SQL, for sets, over one connection.

workspace.py     the load and the save of a set of commands
orders.py        the orders' rows, which a write locks, and their remaining units
fulfillments.py  fulfilments with all their parts, and their history
picklists.py     the lines of fulfilments
packages.py      packages and their items
void_labels.py   the units in the parcels of void labels
"""
