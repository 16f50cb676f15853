"""The model of the order service: frozen dataclasses and pure rules.

records.py    an order with its lines, fulfilments and history
returns.py    its returns (RMAs), with their lines and history
history.py    what the histories of both have in common
checkout.py   a request for an order, and the lines and the number that follow from it
commands.py   the commands about an order and its returns
events.py     the domain events
filters.py    the filters of lists
"""
