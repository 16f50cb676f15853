"""The decisions: a command and an order become the order afterwards. Pure: no I/O, clock or chance.

deciders.py      the table of deciders
creation.py      a checkout becomes an order; a further attempt of a failed order
payments.py      payments of an order, and the commit of its stock
cancellation.py  cancellations of the order or of units, and expiry
fulfillment.py   events of fulfilments and their shipments
returns.py       units on their way back
inspections.py   returned units get their results and their refund amounts
recalls.py       units that left a warehouse for what is cancelled
refunds.py       money that went back
transitions.py   transitions with their events, cancelled units and allocations
"""
