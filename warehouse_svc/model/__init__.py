"""The model of the warehouse service: frozen dataclasses and pure rules.

records.py    stock levels, the rows of the ledger, and reservations with their units
commands.py   the commands
events.py     the domain events
filters.py    filters of lists
"""
