"""Breaches of an event's contract, for every published type: the event is unreadable, and the error
names the field.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from ordermesh.shipping.events.v1.shipping_events_pb2 import ShipmentCreated

from chassis.broker.event_payload import parse_event, unknown_values
from chassis.values.errors import Invalid
from chassis.values.event_subjects import MESSAGE_BYTES_MAX, subject_of
from tests.sample.contract_events import valid

KINDS = list(valid())
# A newer publisher may add a value to an enum: the event is readable, and the value means no
# change.
NEWER = 99
# One element of OrderStatusChanged.items, without a field.
EMPTY_ITEM = bytes([OrderStatusChanged.DESCRIPTOR.fields_by_name["items"].number << 3 | 2, 0])
OLD = "old_status"  # unspecified where a record was created


def leaves(message: Any, path: str = "") -> Iterator[tuple[Any, FieldDescriptor, str]]:
    """Returns each set scalar field of the message with its owner and its path."""
    for field, value in message.ListFields():
        where = f"{path}{field.name}"
        if field.message_type is None:
            yield message, field, where
        elif field.is_repeated:
            yield from leaves(value[0], f"{where}[0].")
        elif not field.message_type.full_name.startswith("google."):
            yield from leaves(value, f"{where}.")


def refusal(event: Message) -> Invalid:
    """Returns why the event cannot be read."""
    with pytest.raises(Invalid) as caught:
        parse_event(type(event), subject_of(type(event)), event.SerializeToString())
    assert caught.value.reason == "EVENT_UNREADABLE"
    assert "iscard" in caught.value.message
    return caught.value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_valid_event_is_read(kind: type[Message]) -> None:
    """The events that the other tests break are valid before that."""
    event = valid()[kind]
    assert parse_event(kind, subject_of(kind), event.SerializeToString()) == event


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_empty_body_is_unreadable(kind: type[Message]) -> None:
    """The error of an empty body names the first missing field."""
    [violation] = refusal(kind()).violations
    assert violation.subject.split(".")[0] in kind.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize(
    "body", [b"\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"garbage"], ids=["tag", "length", "text"]
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_garbage_body_is_unreadable(kind: type[Message], body: bytes) -> None:
    """A body that is no protobuf message is unreadable, and the error names its type."""
    with pytest.raises(Invalid, match=kind.DESCRIPTOR.full_name) as caught:
        parse_event(kind, subject_of(kind), body)
    assert caught.value.reason == "EVENT_UNREADABLE"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_each_broken_field_is_named(kind: type[Message]) -> None:
    """An id without a UUID, an enum without a value, and a negative quantity, version or attempt
    are each refused by path.
    """
    broken = 0
    for number, (_, field, path) in enumerate(leaves(valid()[kind])):
        event = valid()[kind]
        owner = list(leaves(event))[number][0]
        if field.name == OLD or field.name in ("cause_id", "tracking_number"):
            continue
        if field.enum_type is not None:
            setattr(owner, field.name, 0)
        elif field.type in (
            FieldDescriptor.TYPE_INT32,
            FieldDescriptor.TYPE_INT64,
        ) and not field.name.endswith("_delta"):
            setattr(owner, field.name, -1)
        elif field.name.endswith("_id") and field.name != "warehouse_id":
            setattr(owner, field.name, "no uuid")
        elif field.name in ("sku", "warehouse_id"):
            setattr(owner, field.name, "")
        else:
            continue
        assert [v.subject for v in refusal(event).violations] == [path]
        broken += 1
    assert broken >= 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_newer_enum_value_is_read(kind: type[Message]) -> None:
    """A value above the known ones is valid: the consumer treats it as no change."""
    event = valid()[kind]
    for owner, field, _ in list(leaves(event)):
        if field.enum_type is not None:
            setattr(owner, field.name, NEWER)
    assert parse_event(kind, subject_of(kind), event.SerializeToString()) == event


def test_negative_enum_value_is_unreadable() -> None:
    """An enum has no negative values: such a value is invalid, not a newer publisher's."""
    event: Any = valid()[OrderStatusChanged]
    event.new_status = -3
    assert [v.subject for v in refusal(event).violations] == ["new_status"]


@pytest.mark.parametrize(
    ("units", "nanos", "code"),
    [
        (-1, 0, "GBP"),
        (0, -1, "GBP"),
        (1, 0, ""),
        (1, 0, "gbp"),
        (10**12, 1, "GBP"),
        (10**12 + 1, 0, "GBP"),
    ],
)
def test_impossible_amount_is_unreadable(units: int, nanos: int, code: str) -> None:
    """Money below zero, beyond any order's total, or without a currency is unreadable; the error
    names both bounds.
    """
    event: Any = valid()[PaymentConfirmed]
    (
        event.captured_amount.units,
        event.captured_amount.nanos,
        event.captured_amount.currency_code,
    ) = units, nanos, code
    [violation] = refusal(event).violations
    assert violation.subject == "captured_amount"
    assert {"0", "1000000000000"} <= set(violation.description.split())


def test_nul_in_a_text_is_unreadable() -> None:
    """No table can store a NUL, so a NUL in any text makes the event unreadable."""
    event: Any = valid()[ShipmentCreated]
    event.shipment.tracking_number = "SBX\0"
    assert [v.subject for v in refusal(event).violations] == ["shipment.tracking_number"]


def test_type_on_another_subject_is_unreadable() -> None:
    """PaymentConfirmed on shipments.shipment.created is unreadable."""
    payload = valid()[PaymentConfirmed].SerializeToString()
    with pytest.raises(Invalid, match=r"shipments\.shipment\.created") as caught:
        parse_event(PaymentConfirmed, subject_of(ShipmentCreated), payload)
    assert caught.value.reason == "EVENT_UNREADABLE"


def test_event_of_a_million_empties_is_refused_unparsed() -> None:
    """A 2 MB event of 1,000,000 empty lines exceeds its bound, and is refused before it is
    parsed.
    """
    payload = b"".join([EMPTY_ITEM] * 1_000_000)
    began = time.process_time()
    with pytest.raises(Invalid) as caught:
        parse_event(OrderStatusChanged, subject_of(OrderStatusChanged), payload)
    assert time.process_time() - began < 0.1
    assert caught.value.reason == "EVENT_UNREADABLE"
    [violation] = caught.value.violations
    assert (violation.subject, violation.kind) == ("items", "repeated.max_items")
    assert "items: must contain no more than 500 item(s)" in caught.value.message


def test_event_with_fields_of_a_newer_version_is_read() -> None:
    """Unknown fields count towards the bounds; a valid event with 1 MB of them is read."""
    event = valid()[OrderStatusChanged]
    newer = OrderStatusChanged.FromString(b"\x82\x7d\x80\x80\x40" + bytes(1 << 20))
    assert newer.ByteSize() > 1 << 20
    payload = event.SerializeToString() + newer.SerializeToString()
    read: Any = parse_event(OrderStatusChanged, subject_of(OrderStatusChanged), payload)
    assert read.order_id == event.order_id  # type: ignore[attr-defined]  # of an order


def test_event_beyond_the_stream_limit_is_unreadable() -> None:
    """The largest payload is the stream's limit: one byte more is refused by its size."""
    payload = valid()[OrderStatusChanged].SerializeToString()
    filler = MESSAGE_BYTES_MAX - len(payload) - 5
    for more, bound in ((0, False), (1, True)):
        size = filler + more
        varint = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        body = payload + b"\x82\x7d" + varint + bytes(size)
        assert len(body) == MESSAGE_BYTES_MAX + more
        if bound:
            with pytest.raises(
                Invalid, match=f"the event: must be at most {MESSAGE_BYTES_MAX} bytes"
            ):
                parse_event(OrderStatusChanged, subject_of(OrderStatusChanged), body)
        else:
            parse_event(OrderStatusChanged, subject_of(OrderStatusChanged), body)


def test_unknown_enum_values_are_named() -> None:
    """The result has exactly the enum fields of the event and of its record that have a newer
    value.
    """
    event: Any = valid()[ShipmentCreated]
    assert list(unknown_values(event)) == []
    event.shipment.status = NEWER
    assert list(unknown_values(event)) == ["shipment.status"]
    changed: Any = valid()[OrderStatusChanged]
    changed.new_status = changed.stock_status = NEWER
    assert list(unknown_values(changed)) == ["new_status", "stock_status"]
