"""The subject and the stream of an event, and the size of its message. Pure."""

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from ordermesh.options.v1 import options_pb2

# Each stream holds all subjects below its first token.
STREAMS = {
    "ORDERS": "orders.>",
    "PAYMENTS": "payments.>",
    "FULFILLMENTS": "fulfillments.>",
    "SHIPMENTS": "shipments.>",
    "WAREHOUSE": "warehouse.>",
}
# The largest message that a service publishes, headers included. The broker's `max_payload` must
# not be below it: docs/operations.md, "The broker". tests/unit/contracts/test_event_sizes.py
# computes that the largest legal event stays below it.
MESSAGE_BYTES_MAX = 2 * 2**20


def subject_of(event: type[Message]) -> str:
    """Returns the subject that an event is published on: an option of its message. Raises TypeError
    where the message is no event.
    """
    return _subject(event.DESCRIPTOR)


@cache
def _subject(event: Descriptor) -> str:
    if subject := event.GetOptions().Extensions[options_pb2.event].subject:
        return subject
    raise TypeError(f"{event.full_name} names no subject: is it an event?")


def stream_of(subject: str) -> str:
    """Returns the name of the stream that holds the subject. Raises LookupError where none does."""
    first = subject.partition(".")[0]
    for name, subjects in STREAMS.items():
        if subjects == f"{first}.>":
            return name
    raise LookupError(f"no stream holds {subject}")


def message_bytes(payload: bytes, headers: Mapping[str, str]) -> int:
    """Returns the size of a message at the broker: a header line is `name: value` CR LF."""
    lines = sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
    return len(payload) + len(b"NATS/1.0\r\n\r\n") + lines
