"""Protobuf messages to the model and back. Pure.

requests.py     requests of callers, as commands and filters
responses.py    records, as messages of responses
events_in.py    events and answers of the other services, as commands and records
events_out.py   domain events, as published events
enums.py        tables of enum values, in both directions
"""
