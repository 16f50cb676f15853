"""The port to a carrier, and an adapter for each carrier.

port.py     the port: labels are bought and taken back
sandbox.py  the built-in carrier, which ships nothing
pdf.py      the labels of the sandbox
"""
