"""All the SQL, for sets, over one connection.

workspace.py  orders: their lock, load and save for a set of commands, unlocked loads, and the
              queries that precede a write
orders.py     other queries that load no order: ids, counts, update times, history, recipients
returns.py    whole returns: their load, and their save with their orders; their lists and history
"""
