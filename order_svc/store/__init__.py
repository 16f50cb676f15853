"""All the SQL, for sets, over one connection.

orders.py   orders, their lines, fulfilments, history and recipients
returns.py  their returns, with lines and history
"""
