"""All SQL of the service: each statement serves a whole set, over one connection.

workspace.py     reservations and stock levels: their lock, load and save for a set of commands
stock.py         stock levels and the rows of the ledger
reservations.py  the reservations of orders, with their lines
"""
