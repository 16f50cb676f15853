"""Protobuf messages to the model and back. Pure.

requests.py     requests of callers, as commands and filters
responses.py    records, as messages of responses
events_in.py    events of the other services, as commands
events_out.py   domain events, as published events
enums.py        tables of enum values, in both directions
"""
