"""All the SQL, for sets, over one connection.

workspace.py   whole accounts: their lock, load and save for a set of commands
accounts.py    the table of accounts: a row for each order, and its load with its payments
payments.py    payments with their operations
operations.py  operations at processors, and the contradictions of their outcomes
refunds.py     refunds: operations, with columns of their payments
history.py     the history of payments
"""
