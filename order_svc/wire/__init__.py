"""Protobuf to model and back, and facts to events. Pure.

requests.py   requests of callers
heard.py      events of the other services
answers.py    what callers get
told.py       what the order service tells the world
returns.py    all of it for returns
names.py      what our enums are called in the contracts
"""

from order_svc.wire.answers import order, recipient, transition, watched
from order_svc.wire.heard import (
    allocations,
    confirm_payment,
    fail_payment,
    note_fulfillment,
    note_lines,
    note_refund,
    note_reservation,
    note_shipment,
    note_shipment_end,
)
from order_svc.wire.requests import (
    cancel_items,
    cancel_order,
    order_filter,
    place_order,
    retry_order,
)
from order_svc.wire.returns import (
    approve_return,
    cancel_return,
    create_return,
    inspect_return,
    mark_return_in_transit,
    order_return,
    receive_return,
    reject_return,
    return_filter,
    return_transition,
)
from order_svc.wire.told import event

__all__ = [
    "allocations",
    "approve_return",
    "cancel_items",
    "cancel_order",
    "cancel_return",
    "confirm_payment",
    "create_return",
    "event",
    "fail_payment",
    "inspect_return",
    "mark_return_in_transit",
    "note_fulfillment",
    "note_lines",
    "note_refund",
    "note_reservation",
    "note_shipment",
    "note_shipment_end",
    "order",
    "order_filter",
    "order_return",
    "place_order",
    "receive_return",
    "recipient",
    "reject_return",
    "retry_order",
    "return_filter",
    "return_transition",
    "transition",
    "watched",
]
