"""The deciders: how a command changes a shipment.

Pure: no I/O, no clock, no randomness.

deciders.py     the tables of deciders
creation.py     the shipment of a ready fulfilment
labels.py       labels that the carrier sells, and its refusals
reports.py      reports of the carrier
recalls.py      recalls and withdrawals, and the answers of the carrier
closing.py      closed orders and cancelled fulfilments
transitions.py  a shipment's next version and its transition
refusals.py     refusals of shipments and labels
"""
