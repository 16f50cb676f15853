"""The operations of the warehouse service. A method serves one RPC, event or timer, or several RPCs
whose commands alone differ. The service calls no peer.

stock.py         receipts, counts, returned units, availability, stock levels and the ledger
reservations.py  reserve, confirm, release, replace and expire; reservations
"""
