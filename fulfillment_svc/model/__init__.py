"""The model: frozen records, commands, events and filters. Pure rules, no I/O.

records.py     a fulfilment with its picklist and packages, all fulfilments of an order, history
commands.py    the commands, and the events of orders that become commands
events.py      the domain events of fulfilments
filters.py     which fulfilments a list shows
inspection.py  which packages are inspected
"""
