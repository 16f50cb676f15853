"""The operations of the fulfilment service. A method serves one RPC, event or timer, or several
RPCs whose commands alone differ. An operation calls the warehouse before its write, once for the
whole set.

A module has the name of its deciders' module. The staff's requests have one operation for the
deciders of picking, packing and the cancellation. The consumer writes events of shipments.

orders.py       events of orders: fulfilments are planned, cut and cancelled
commits.py      commits of stock, requested from the warehouse
staff.py        requests of the staff, and the request for the shipment of a ready fulfilment
inspections.py  inspections, and the replacement of spoiled units
reading.py      reads and lists
"""
