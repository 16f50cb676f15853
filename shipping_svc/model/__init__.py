"""The model: frozen records, commands, events and filters. Pure rules, no I/O.

records.py   shipments and their parts, closed orders and fulfilments, rows of history
commands.py  what changes them
events.py    the domain events of a shipment
filters.py   which shipments a list shows
"""
