"""The decisions: what fulfilments become by a command. Pure: no I/O, no clock, no chance.

deciders.py  the table of deciders, and the rules before them
orders.py    what the order makes of all its fulfilments: planned, settled, cut, ended, released
picking.py   scans, and the picklist closed
packing.py   packages and their inspection
leaving.py   given up, or gone with a shipment
steps.py     a step and its facts, and the refusals
"""
