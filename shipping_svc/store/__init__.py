"""All SQL of the service: each statement serves a whole set, over one connection.

workspace.py  whole shipments: their lock, load and save for a set of commands
shipments.py  the tables of shipments, parcels and history: their statements, reads and lists
labels.py     labels, and the shipments whose label is still to be bought
recalls.py    recalls that the carrier has not answered
tries.py      tries of labels and recalls, with pauses that double
reports.py    the carrier's reports
closed.py     closed orders and cancelled fulfilments: reads, and their lock, load and save
"""
