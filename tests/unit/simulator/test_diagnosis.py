"""An order that goes no further: which step is named, and whose log."""

from collections.abc import Sequence
from typing import Any

import pytest
from ordermesh.payment.v1 import payment_pb2

from simulator.diagnosis import diagnosis
from tests.unit.simulator.samples import fulfillment, order, shipment


def payment(status: str) -> payment_pb2.Payment:
    """A payment that stands there."""
    return payment_pb2.Payment(
        status=payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{status.upper()}")
    )


@pytest.mark.parametrize(
    ("status", "payments", "works", "shipments", "said", "whose"),
    [
        ("pending", [], [], [], "pending, and not paid", "payment"),
        ("pending", [payment("declined")], [], [], "pending, and not paid", "payment"),
        ("pending", [payment("pending")], [], [], "the processor's answer", "payment"),
        (
            "pending",
            [payment("declined"), payment("captured")],
            [],
            [],
            "paid, and the order has not heard",
            "order",
        ),
        (
            "pending",
            [payment("not_required")],
            [],
            [],
            "paid, and the order has not heard",
            "order",
        ),
        ("confirmed", [], [], [], "no warehouse has begun", "fulfillment"),
        (
            "processing",
            [],
            [fulfillment("planning", stock_committed=False)],
            [],
            "waits for its stock",
            "warehouse",
        ),
        (
            "processing",
            [],
            [fulfillment("shipped"), fulfillment("picking")],
            [],
            "london-1 is picking",
            "fulfillment",
        ),
        ("processing", [], [fulfillment("ready")], [], "waits for its shipment", "shipping"),
        (
            "processing",
            [],
            [fulfillment("shipped")],
            [],
            "every fulfilment is with its carrier",
            "order",
        ),
        (
            "shipped",
            [],
            [],
            [shipment("delivered"), shipment("in_transit")],
            "london-1 is in_transit",
            "shipping",
        ),
        ("shipped", [], [], [shipment("delivered")], "every shipment is delivered", "order"),
    ],
)
def test_the_stuck_step_is_named(
    status: str,
    payments: Sequence[Any],
    works: Sequence[Any],
    shipments: Sequence[Any],
    said: str,
    whose: str,
) -> None:
    """The sentence says what was waited for, and in which log to look."""
    found = diagnosis(order(status), payments, works, shipments)
    assert said in found
    assert f".ordermesh/logs/{whose}.log" in found


def test_an_order_that_has_ended_says_how() -> None:
    """A cancelled order is not stuck: it says why it ended."""
    assert diagnosis(order("cancelled"), [], [], []) == "cancelled (BECAUSE)"
