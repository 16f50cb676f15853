"""The operations of the warehouse service, one method for each use case. The service calls no peer.

stock.py         receipts, counts, returned units, availability, stock levels and the ledger
reservations.py  reserve, confirm, release, replace and expire; reservations
"""
