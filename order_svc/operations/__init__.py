"""The operations of the order service. A method serves one RPC, event or timer, or several RPCs
whose commands alone differ. An operation asks a peer before the write, in one call for the whole
set; a release of stock follows its write.

creation, payments, cancellation and returns are named like their deciders' modules.

creation.py      orders are placed, and failed ones are tried again
payments.py      payments, and the commit of their stock
cancellation.py  cancellations of orders and of units, and expiry
returns.py       returns of orders
reading.py       reads, lists and watches of orders
releasing.py     releases the stock of cancelled orders
"""
