"""Protobuf messages to the model and back. Pure.

requests.py     requests of callers, as commands and filters
responses.py    records, as messages of responses
events_in.py    events of the other services, as commands
events_out.py   domain events, as published events
returns.py      requests, responses and events of returns
enums.py        the enums of the service and of the contracts
"""

from order_svc.wire.events_in import (
    allocations,
    apply_fulfillment_lines,
    apply_fulfillment_status,
    apply_refund,
    apply_reservation,
    apply_shipment,
    apply_shipment_outcome,
    confirm_payment,
    fail_payment,
)
from order_svc.wire.events_out import outgoing_event
from order_svc.wire.requests import (
    cancel_items,
    cancel_order,
    order_filter,
    place_order,
    retry_order,
)
from order_svc.wire.responses import order, recipient, transition, watch_response
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

__all__ = [
    "allocations",
    "apply_fulfillment_lines",
    "apply_fulfillment_status",
    "apply_refund",
    "apply_reservation",
    "apply_shipment",
    "apply_shipment_outcome",
    "approve_return",
    "cancel_items",
    "cancel_order",
    "cancel_return",
    "confirm_payment",
    "create_return",
    "fail_payment",
    "inspect_return",
    "mark_return_in_transit",
    "order",
    "order_filter",
    "order_return",
    "outgoing_event",
    "place_order",
    "receive_return",
    "recipient",
    "reject_return",
    "retry_order",
    "return_filter",
    "return_transition",
    "transition",
    "watch_response",
]
