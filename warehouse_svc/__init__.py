"""The warehouse: quantities, reservations, the stock ledger."""
