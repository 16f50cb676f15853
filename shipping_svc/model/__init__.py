"""The model of the shipping service: frozen dataclasses and pure rules.

records.py   shipments and their parts, closed orders and fulfilments, rows of history
commands.py  the commands
events.py    the domain events of a shipment
filters.py   filters of lists
"""
