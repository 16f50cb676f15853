"""The decisions: what fulfilments become by a command. Pure: no I/O, no clock, no chance.

deciders.py  the table of deciders, and the rules before them
orders.py    all fulfilments of an order: plan, record the commit, cut, close an attempt, and the
             confirmation of a withdrawal
picking.py   scans, and the picklist closed
packing.py   packages and their inspection
shipping.py  a shipment and its delivery; the cancellation by the staff
steps.py     a step and its facts, and the refusals
"""
