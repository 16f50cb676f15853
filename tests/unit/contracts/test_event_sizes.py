"""The largest event of each type, computed from the bounds of the contracts, is below the broker's
limit.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from ordermesh.options.v1 import options_pb2

from chassis.write.outbox import EVENT_BYTES_MAX
from tests.unit.contracts.rules import files, messages, methods
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX

# The greatest number of elements of a field that no request states. The value is the name of the
# request's field that bounds it, or a number with its reason.
COUNTS: dict[str, str | int] = {
    "OrderStatusChanged.items": "CreateOrderRequest.items",
    "OrderItemsCancelled.items": "CreateOrderRequest.items",
    "OrderLine.unit_shares": 3,  # a discount and a tax each divide a line's units once
    "OrderLine.allocations": WAREHOUSES_MAX,
    "Return.lines": "CreateOrderRequest.items",
    "Reservation.lines": "ReserveStockRequest.lines",
    "ReservationStatusChanged.attempt_reservations": WAREHOUSES_MAX,
    "Fulfillment.picklist": "CreateOrderRequest.items",
    "Fulfillment.packages": "PackFulfillmentRequest.packages",
    "ShippedAfterVoid.items": "CreateOrderRequest.items",
    "Shipment.parcels": "CreateShipmentRequest.parcels",
}
# Bytes of texts that no request states.
BYTES = {
    "status_reason": 64,  # a request's reason, or one of the services' own
    "confirm_refused_reason": 64,  # an ErrorReason
    "withdraw_reason": 64,  # fulfillment_svc.lifecycle.WithdrawReason
    "inspection_rule": 64,  # fulfillment_svc.lifecycle.InspectionRule
    "movement_id": 36,
    "refund_id": 36,
    "carrier": 64,  # the name of an adapter
    # Texts of carriers and processors. A webhook's body, 64 KiB, bounds the longest.
    "carrier_code": 65536,
    "decline_code": 65536,
    "failure_code": 65536,
    "cause_id": 200,  # a request_id, or an id with a number after it
}
UTF8_BYTES_MAX = 4  # bytes of a character


def events() -> Iterator[Descriptor]:
    """Returns every message that is an event."""
    for file in files():
        for message in messages(file):
            if message.GetOptions().Extensions[options_pb2.event].subject:
                yield message


def name_of(field: FieldDescriptor) -> str:
    """Returns the field's name with that of its message."""
    return ".".join(field.full_name.split(".")[-2:])


def request_fields() -> dict[str, FieldDescriptor]:
    """Returns the fields of requests, by `Message.field`."""
    found: dict[str, FieldDescriptor] = {}
    waiting = [method.input_type for file in files() for method in methods(file)]
    seen = set(waiting)
    while waiting:
        for field in waiting.pop().fields:
            found[name_of(field)] = field
            inner = field.message_type
            if inner is not None and inner not in seen:
                seen.add(inner)
                waiting.append(inner)
    return found


REQUEST_FIELDS = request_fields()


def rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    found: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return found


def width(field: FieldDescriptor) -> int:
    """Returns the greatest number of bytes of a text. The bound is its own rule, that of the
    request's field of its name, or BYTES.
    """
    named = [other for name, other in REQUEST_FIELDS.items() if name.endswith(f".{field.name}")]
    widths = [found for other in (field, *named) if (found := _width(rules(other).string))]
    return max(widths) if widths else BYTES[field.name]


def _width(rules: validate_pb2.StringRules) -> int | None:
    if rules.HasField("max_len"):
        return rules.max_len * UTF8_BYTES_MAX
    if rules.uuid:
        return 36
    if rules.pattern:  # all are ASCII
        return 1 + sum(map(int, re.findall(r"\{(?:\d+,)?(\d+)\}", rules.pattern)))
    return None


def count(field: FieldDescriptor) -> int:
    """Returns the greatest number of elements of a field, by its own rule or by COUNTS."""
    repeated = rules(field).repeated
    if repeated.HasField("max_items"):
        return repeated.max_items
    bound = COUNTS[name_of(field)]
    return bound if isinstance(bound, int) else rules(REQUEST_FIELDS[bound]).repeated.max_items


def largest(kind: Descriptor) -> Message:
    """Returns a message of this type whose texts, counts and numbers have their greatest value."""
    made = GetMessageClass(kind)()
    if kind.full_name == "google.protobuf.Timestamp":
        return type(made)(seconds=253_402_300_799, nanos=999_999_999)
    if kind.full_name == "google.type.Money":
        return type(made)(currency_code="ZZZ", units=2**63 - 1, nanos=999_999_999)
    for field in kind.fields:
        if field.message_type is not None:
            one = largest(field.message_type)
            if field.is_repeated:
                getattr(made, field.name).extend([one] * count(field))
            else:
                getattr(made, field.name).CopyFrom(one)
        else:
            setattr(made, field.name, _highest(field))
    return made


def _highest(field: FieldDescriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return "x" * width(field)
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return max(field.enum_type.values_by_number)
        case FieldDescriptor.CPPTYPE_INT32:
            return 2**31 - 1
        case FieldDescriptor.CPPTYPE_INT64:
            return 2**63 - 1
    raise TypeError(f"{field.full_name} is of a kind that no event has had so far")


@pytest.mark.parametrize("event", list(events()), ids=lambda event: event.name)
def test_largest_event_of_each_type_fits_the_outbox(event: Descriptor) -> None:
    """With every line, allocation, parcel and name at its bound, an event stays below the limits of
    the outbox and the broker.
    """
    assert largest(event).ByteSize() <= EVENT_BYTES_MAX


def test_bounds_of_texts_and_counts_are_all_in_use() -> None:
    """Each bound of this file belongs to a field of an event."""
    fields = list(_fields())
    assert set(COUNTS) <= {name_of(field) for field in fields}
    assert set(BYTES) <= {field.name for field in fields}


def _fields() -> Iterator[FieldDescriptor]:
    waiting = list(events())
    seen = set(waiting)
    while waiting:
        for field in waiting.pop().fields:
            yield field
            if field.message_type is not None and field.message_type not in seen:
                seen.add(field.message_type)
                waiting.append(field.message_type)
