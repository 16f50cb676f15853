"""Protobuf to model and back, and facts to events. Pure.

requests.py   what callers ask
heard.py      what the other services tell
answers.py    what callers get
told.py       what the order service tells the world
names.py      what our enums are called in the contracts
"""

from order_svc.wire.answers import order, recipient, transition, watched
from order_svc.wire.heard import allocations, confirm_payment, fail_payment, note_fulfillment, note_reservation, note_shipment
from order_svc.wire.requests import checkout, order_filter, resume_token, resumed
from order_svc.wire.told import event

__all__ = [
    "allocations",
    "checkout",
    "confirm_payment",
    "event",
    "fail_payment",
    "note_fulfillment",
    "note_reservation",
    "note_shipment",
    "order",
    "order_filter",
    "recipient",
    "resume_token",
    "resumed",
    "transition",
    "watched",
]
