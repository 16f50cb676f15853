"""The decisions: a command's effect on an order's account. Pure: no I/O, clock or randomness.

deciders.py        the table of deciders, and the rules before and after them
orders.py          events of the order; the payment of an order of total zero
payments.py        create, capture, void
refunds.py         refund by request, refund of a return
settlement.py      answers of processors, unknown outcomes and their lookups
contradictions.py  an answer of a processor that contradicts an earlier one
compensation.py    automatic refunds and voids, after every command
events.py          domain events, of the rows of history
transitions.py     how records change
"""
