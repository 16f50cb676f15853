"""The decisions: what an order's account becomes by a command. Pure: no I/O, no clock, no chance.

deciders.py        the table of deciders, and the rules before and after them
orders.py          events of the order; the payment of an order of total zero
payments.py        create, capture, void
refunds.py         refund by request, refund of a return
settlement.py      answers of processors, and how they are asked again
contradictions.py  an answer of a processor that contradicts an earlier one
compensation.py    money that the order does not cost goes back, after every command
steps.py           how records change
"""
