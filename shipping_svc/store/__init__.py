"""All the SQL, for sets, over one connection.

workspace.py  the load and the save of a set of commands about shipments
shipments.py  shipments with their parcels, and their history
labels.py     labels, and the shipments whose label is still to be bought
recalls.py    recalls that the carrier has not answered
tries.py      the tries of labels and recalls: each pause is twice the one before
reports.py    the carrier's reports
closed.py     closed orders and cancelled fulfilments
"""
