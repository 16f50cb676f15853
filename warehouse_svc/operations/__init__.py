"""The operations of the warehouse service, one method for each. It calls no peer.

A module has the name of its deciders' module.

stock.py         receipts, counts, availability, stock levels and the ledger
reservations.py  reserve, confirm, release and expire; reservations
fulfillment.py   the replacement of spoiled units
returns.py       units that returns bring back
"""
