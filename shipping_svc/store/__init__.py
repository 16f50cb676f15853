"""All SQL of the service: each statement serves a whole set, over one connection.

workspace.py  the load and the save of a set of commands about shipments
shipments.py  shipments with their parcels, and their history
labels.py     labels, and the shipments whose label is still to be bought
recalls.py    recalls that the carrier has not answered
tries.py      tries of labels and recalls, with pauses that double
reports.py    the carrier's reports
closed.py     closed orders and cancelled fulfilments
"""
