"""The conversion of a stream's message to a handler's delivery, for any message."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.broker import event_payload
from chassis.consume.delivery import Received, received_event, storable
from chassis.values.errors import Defect, Invalid
from tests.sample.events import SamplePaid, SampleStatusChanged

NAME = SampleStatusChanged.DESCRIPTOR.full_name
STORED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # by the stream
PAID = SamplePaid.DESCRIPTOR.full_name
KINDS = {NAME: SampleStatusChanged, PAID: SamplePaid}


def received(
    headers: dict[str, str] | None,
    body: bytes = b"",
    seq: int = 7,
    attempts: int = 1,
    subject: str = "orders.sample.status_changed",
) -> Received:
    reply = f"$JS.ACK.ORDERS.sample-orders.{attempts}.{seq}.{seq}.{int(STORED.timestamp() * 1e9)}.0"
    message = Msg(Client(), subject, reply, body, headers)
    it = Received(event=received_event(message, "sample-orders"))
    it.parse(KINDS)
    return it


def test_message_becomes_a_delivery() -> None:
    """Headers, body and position become a delivery with all that a replay needs."""
    event_id, body = uuid4(), SampleStatusChanged(order_id="7", version=3).SerializeToString()
    headers = {
        "ce-id": str(event_id),
        "ce-type": NAME,
        "ce-subject": "order 7",
        "ce-time": "2026-11-22T13:00:00+02:00",
        "traceparent": "00-1-2-01",
    }
    it = received(headers, body, seq=9, attempts=4)
    assert it.delivery
    assert (it.delivery.event_id, it.delivery.key) == (event_id, f"sample-orders:{event_id}")
    assert it.delivery.message == SampleStatusChanged(order_id="7", version=3)
    assert it.delivery.time == STORED - timedelta(hours=1)
    event = it.event
    assert (event.stream, event.stream_seq, event.subject, event.type) == (
        "ORDERS",
        9,
        "orders.sample.status_changed",
        NAME,
    )
    assert (event.aggregate, event.traceparent, event.payload, event.attempts) == (
        "order 7",
        "00-1-2-01",
        body,
        4,
    )


def test_event_without_an_id_gets_one_of_its_position() -> None:
    """The same message has the same id each time; two messages have different ids."""
    ids = [received({"ce-type": NAME}, seq=seq).event.event_id for seq in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert received({"ce-id": "no id"}, seq=1).event.event_id == ids[0]
    event_id = uuid4()
    assert received({"Nats-Msg-Id": str(event_id)}).event.event_id == event_id


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-22T13:00:00"])
def test_invalid_event_time_becomes_the_time_of_the_stream(time: str) -> None:
    """Without a time, or with a text or a time without a zone, the stream's storage time counts."""
    it = received({"ce-type": NAME, "ce-time": time})
    assert it.delivery
    assert it.delivery.time == STORED


@pytest.mark.parametrize(
    ("headers", "body"),
    [(None, b""), ({}, b""), ({"ce-type": "x"}, b""), ({"ce-type": NAME}, b"\xff\xff")],
)
def test_unreadable_message_has_the_error_and_the_data(
    headers: dict[str, str] | None, body: bytes
) -> None:
    """A message without headers, without a type, with an unknown type or with another body is no
    delivery. Its error and its data can be stored.
    """
    it = received(headers, body)
    assert it.delivery is None
    assert isinstance(it.fault, Invalid)
    assert it.fault.reason == "EVENT_UNREADABLE"
    assert isinstance(it.event.event_id, UUID)


def test_exception_of_validation_is_a_defect_of_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of parsing or validation other than Invalid becomes the event's Defect, and is
    not raised.
    """
    error = RuntimeError("a rule cannot be evaluated")

    def broken(message: object, *, fail_fast: bool) -> None:
        raise error

    monkeypatch.setattr(event_payload, "violations", broken)
    it = received({"ce-type": NAME})
    assert it.delivery is None
    assert isinstance(it.fault, Defect)
    assert it.fault.__cause__ is error


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (NAME, "payments.sample.paid"),
        (PAID, "orders.sample.status_changed"),
        (PAID, "payments.sample.other"),
    ],
)
def test_type_on_foreign_subject_is_unreadable(kind: str, subject: str) -> None:
    """A type on another subject than its own is unreadable, with or without a handler for that
    subject. The error names both.
    """
    it = received({"ce-type": kind}, SamplePaid(order_id="7").SerializeToString(), subject=subject)
    assert it.delivery is None
    assert isinstance(it.fault, Invalid)
    assert it.fault.reason == "EVENT_UNREADABLE"
    assert kind in it.fault.message
    assert subject in it.fault.message


@pytest.mark.parametrize("text", ["plain", "n\0l", "\udcff", "x" * 5000])
def test_foreign_text_is_made_storable(text: str) -> None:
    """NUL, which PostgreSQL refuses, and lone surrogates, which UTF-8 refuses, are replaced; a text
    of five thousand letters is cut.
    """
    stored: Any = storable(text)
    assert "\0" not in stored
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert len(stored) <= 2000
    assert storable("plain") == "plain"
