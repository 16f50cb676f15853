"""All the SQL, for sets, over one connection.

workspace.py   the load and the save of a set of commands about accounts
accounts.py    accounts of orders, with their payments
payments.py    payments with their operations
operations.py  operations at processors, and the contradictions of their outcomes
refunds.py     refunds: operations, with columns of their payments
history.py     the history of payments
"""
