"""All the SQL, for sets, over one connection.

workspace.py  orders with all that belongs to them: their load, and the save of a set of commands
orders.py     lists, history and recipients; the orders whose time is over
returns.py    returns: their load and save under their orders' locks, and their lists
"""
