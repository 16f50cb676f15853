"""The deciders: how a command changes the fulfilments of an order.

Pure: no I/O, no clock, no randomness.

deciders.py     the table of deciders, and the rules before them
orders.py       all fulfilments of an order: plan, cut, close an attempt, confirm a withdrawal
commits.py      the commit of an attempt's stock
picking.py      scans, and the closing of the picklist
packing.py      packages
inspections.py  inspections, and spoiled units
shipping.py     a shipment and its delivery; the cancellation by the staff
transitions.py  transitions and their events, and the refusals
"""
