"""Records, commands and domain events of fulfilments. Pure rules, no I/O.

records.py     a fulfilment with its picklist and packages, all fulfilments of an order, their
               history and domain events
commands.py    the commands, and the events of orders that become commands
inspection.py  which packages are inspected
"""
