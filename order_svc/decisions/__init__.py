"""The decisions: a command and an order become the order afterwards. Pure: no I/O, clock or chance.

deciders.py    the table of deciders, and the rules before and after them
placing.py     a checkout becomes an order
paying.py      payments and refunds of an order
cancelling.py  cancellations of the order or of units, expiry, and a further attempt
following.py   events of fulfilment, shipping and the warehouse, and recalls
returning.py   units on their way back
steps.py       a step with its history and its event, cancelled units and allocations
"""
