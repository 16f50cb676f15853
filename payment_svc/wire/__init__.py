"""Protobuf messages to the model and back. Pure. No message holds a payment-method token.

requests.py     requests of callers, as commands and filters
responses.py    records, as messages of responses
events_in.py    events and responses of the order service, as commands and records
events_out.py   domain events, as published events
enums.py        the enums of the service and of the contracts
"""
