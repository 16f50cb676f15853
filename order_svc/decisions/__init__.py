"""The decisions: what an order becomes by a command. Pure: no I/O, no clock, no chance.

deciders.py    the table of deciders, and the rules before and after them
placing.py     a checkout becomes an order
paying.py      payments and refunds of an order
cancelling.py  cancellations of the order or of units, expiry, and a further attempt
following.py   events of fulfilment, shipping and the warehouse, and recalls
returning.py   units on their way back
steps.py       a step with its history and its fact, cancelled units, and the axes
"""
