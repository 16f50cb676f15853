"""All SQL of the service: each statement serves a whole set, over one connection.

workspace.py     the load and the save of a set of commands
stock.py         stock levels and the rows of the ledger
reservations.py  the reservations of orders, with their lines
"""
