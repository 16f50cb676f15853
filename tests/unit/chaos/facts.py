"""Facts of an audit, for the tests of a chaos run. No tests here."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from omctl.audit.facts import Facts


def facts_with(**given: Any) -> Facts:
    """Returns facts with these values; all others are empty."""
    lists = (
        "returns",
        "levels",
        "movements",
        "reservations",
        "refunds",
        "fulfillments",
        "shipments",
    )
    nothing: dict[str, Any] = {name: [] for name in lists}
    rest: dict[str, Any] = {
        "time": Timestamp().ToDatetime(),
        "orders": {},
        "payments": [],
        "failed": {},
        "outboxes": {},
    }
    return Facts(**(nothing | rest | given))
