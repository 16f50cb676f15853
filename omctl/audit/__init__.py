"""Compares the records of all five services: units, money, events, and the progress of each order.

facts.py           reads the records that the services return over their public methods
difference.py      the types Check and Difference
stock.py           checks of every unit
returned_units.py  checks of every unit that comes back
money.py           checks of every penny
streams.py         checks of every event: outbox against stream
orders.py          checks of every order: the services agree, and no automatic step is stuck
audit.py           makes all checks, over several readings
command.py         `omctl audit`
"""
