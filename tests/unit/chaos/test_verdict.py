"""The verdict beside the audit speaks where a promise is broken, and is silent where all are
kept.
"""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2

from omctl.audit import Facts
from tests.chaos import verdict
from tests.chaos.intents import intents
from tests.chaos.shoppers import Story

INTENT = next(intents(1, 60, 1))
DELIVERED, CANCELLED = order_pb2.ORDER_STATUS_DELIVERED, order_pb2.ORDER_STATUS_CANCELLED


def told(**given: Any) -> Facts:
    """Facts with these, and nothing else."""
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


def order(order_id: str = "1", status: Any = DELIVERED) -> order_pb2.Order:
    """An order of the shopper."""
    item = order_pb2.OrderItem(line_number=1, quantity=3, cancelled_quantity=1)
    return order_pb2.Order(
        order_id=order_id, status=status, external_reference=INTENT.name, items=[item], version=2
    )


def payment() -> payment_pb2.Payment:
    """What was captured for it."""
    return payment_pb2.Payment(order_id="1", captured_amount=Money(currency_code="GBP", units=1))


KEPT = Story(INTENT, order_id="1", captured=True, cancelled_units={1: 1})
BROKEN = {
    "placed": (told(), KEPT),
    "captured": (told(orders={"1": order()}), KEPT),
    "cancelled": (told(orders={"1": order()}), Story(INTENT, order_id="1", cancelled=True)),
    "cancelled units": (
        told(orders={"1": order()}),
        Story(INTENT, order_id="1", cancelled_units={1: 2}),
    ),
    "return": (told(orders={"1": order()}), Story(INTENT, order_id="1", return_ids=["r"])),
    "twice": (told(orders={"1": order(), "2": order("2")}), Story(INTENT, order_id="1")),
}


def test_kept_promises_are_not_reported() -> None:
    """Whatever was answered is so: nothing to say."""
    assert list(verdict.promises(told(orders={"1": order()}, payments=[payment()]), [KEPT])) == []
    assert list(verdict.promises(told(), [Story(INTENT)])) == [], (
        "who was refused was promised nothing"
    )


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_reported(what: str) -> None:
    """One that was answered and is not so is named."""
    facts, story = BROKEN[what]
    assert [each.check for each in verdict.promises(facts, [story])] == [f"chaos.{what}"]


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        (DELIVERED, True),
        (CANCELLED, True),
        (order_pb2.ORDER_STATUS_PENDING, False),
        (order_pb2.ORDER_STATUS_SHIPPED, False),
    ],
)
def test_an_order_that_is_under_way_is_not_at_rest(status: Any, rests: bool) -> None:
    """Only ends are places to stay."""
    assert (not list(verdict.resting(told(orders={"1": order(status=status)})))) == rests


def test_resting_with_a_deferred_event_is_reported() -> None:
    """An event that is deferred when all else rests is reported; a failed one is the audit's."""
    states = (
        ops_service_pb2.FAILED_EVENT_STATE_DEFERRED,
        ops_service_pb2.FAILED_EVENT_STATE_FAILED,
    )
    events = [ops_service_pb2.FailedEvent(event_id=str(state), state=state) for state in states]
    [found] = verdict.resting(told(failed={"order": events}))
    assert (found.check, found.subject) == ("chaos.resting", f"event {states[0]} for ")


def step(version: int, old: Any, new: Any) -> order_pb2.OrderTransition:
    """A row of a history."""
    return order_pb2.OrderTransition(order_version=version, old_status=old, new_status=new)


PENDING, CONFIRMED = order_pb2.ORDER_STATUS_PENDING, order_pb2.ORDER_STATUS_CONFIRMED


@pytest.mark.parametrize(
    ("steps", "faults"),
    [
        ([step(1, 0, PENDING), step(2, PENDING, CANCELLED)], 0),
        ([step(1, 0, PENDING), step(2, PENDING, PENDING)], 0),
        ([step(1, 0, PENDING), step(3, PENDING, CANCELLED)], 1),
        ([step(1, 0, PENDING), step(2, CONFIRMED, CANCELLED)], 1),
        ([step(1, 0, CANCELLED), step(2, CANCELLED, CONFIRMED)], 1),
    ],
)
def test_histories_go_by_legal_moves_without_a_gap(
    steps: list[order_pb2.OrderTransition], faults: int
) -> None:
    """A gap, a jump, and a move that no table permits are each reported; cancelled units are no
    move.
    """
    assert len(list(verdict._history(order(), steps))) == faults
