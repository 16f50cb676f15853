"""All the SQL, for sets, over one connection.

workspace.py  orders: their lock, load and save for a set of commands, and unlocked loads
orders.py     queries that load no order: ids, counts, update times, history, recipients
returns.py    whole returns: their load, and their save with their orders; their lists and history
"""
