"""The diagnosis of a stuck order: the step that it waits for, and the service's log."""

from collections.abc import Sequence
from typing import Any

import pytest
from ordermesh.payment.v1 import payment_pb2

from simulator.diagnosis import diagnosis
from tests.unit.simulator.samples import fulfillment, order, shipment


def payment(status: str) -> payment_pb2.Payment:
    """Returns a payment with this status."""
    return payment_pb2.Payment(
        status=payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{status.upper()}")
    )


@pytest.mark.parametrize(
    ("status", "payments", "works", "shipments", "sentence", "service"),
    [
        ("pending", [], [], [], "pending, and not paid", "payment"),
        ("pending", [payment("declined")], [], [], "pending, and not paid", "payment"),
        ("pending", [payment("pending")], [], [], "the processor's answer", "payment"),
        (
            "pending",
            [payment("declined"), payment("captured")],
            [],
            [],
            "paid, and the order has not consumed",
            "order",
        ),
        (
            "pending",
            [payment("not_required")],
            [],
            [],
            "paid, and the order has not consumed",
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
            "london-1 is stuck in picking",
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
            "london-1 is stuck in in_transit",
            "shipping",
        ),
        ("shipped", [], [], [shipment("delivered")], "every shipment is delivered", "order"),
    ],
)
def test_diagnosis_names_the_stuck_step_and_its_log(
    status: str,
    payments: Sequence[Any],
    works: Sequence[Any],
    shipments: Sequence[Any],
    sentence: str,
    service: str,
) -> None:
    """The sentence has the missing step, and the log to read."""
    found = diagnosis(order(status), payments, works, shipments)
    assert sentence in found
    assert f".ordermesh/logs/{service}.log" in found


def test_diagnosis_of_an_ended_order_names_the_reason() -> None:
    """A cancelled order is not stuck: the diagnosis is its reason."""
    assert diagnosis(order("cancelled"), [], [], []) == "cancelled (BECAUSE)"
