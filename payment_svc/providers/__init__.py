"""The card processors that payments can go through: the port, and an adapter for each.

port.py            the port: requests to a processor, and its answers
sandbox.py         the built-in processor, which takes no money
sandbox_ledger.py  the tables of the sandbox
webhooks.py        signatures of a processor's webhooks
"""
