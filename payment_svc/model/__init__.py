"""The payment account of an order, its payments and operations; commands, answers, domain events.

records.py   the payment account, its payments and operations, their history
events.py    the domain events
commands.py  the requests of callers, and the commands
answers.py   the answers and reports of processors
filters.py   the filters of lists
excerpt.py   the operations that a payment's response holds
"""
