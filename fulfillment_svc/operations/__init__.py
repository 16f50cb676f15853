"""The operations of the fulfilment service, one method for each. An operation calls a peer before
its write, once for the whole set.

Events of shipments need no operation: their consumer writes them.

orders.py       events of orders: fulfilments are planned, cut and cancelled
commits.py      commits of stock, requested from the warehouse
staff.py        requests of the staff: picking, packing and the cancellation
inspections.py  inspections, and the replacement of spoiled units
shipping.py     shipments of ready fulfilments, requested from the shipping service
reading.py      reads and lists
"""
