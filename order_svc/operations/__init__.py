"""The operations of the order service, one method for each. An operation asks a peer before the
write, in one call for the whole set.

orders.py     orders: placed, paid, cancelled, tried again, expired; events of other services;
              lists and watches
returns.py    their returns
releasing.py  releases the stock of orders that have ended
"""
