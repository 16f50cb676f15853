"""The decisions: what a shipment becomes by a command. Pure: no I/O, no clock, no chance.

deciders.py  the tables of deciders, and what several have in common
creation.py  the shipment of a ready fulfilment
labels.py    the carrier sells a label, or refuses
reports.py   the carrier reports
recalls.py   recalls and withdrawals, and the answers of the carrier
closing.py   closed orders and cancelled fulfilments: nothing is shipped for them
steps.py     a shipment's next version and its row of history
refusals.py  why there is no label
"""
