"""The verdict of a chaos run, beside the audit: it reports each broken guarantee, and nothing where
all hold.
"""

from typing import Any

import pytest
from google.type.money_pb2 import Money
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2

from tests.chaos import verdict
from tests.chaos.scenarios import scenarios
from tests.chaos.shoppers import Story
from tests.unit.chaos.facts import facts_with

SCENARIO = next(scenarios(1, 60, 1))
DELIVERED, CANCELLED = order_pb2.ORDER_STATUS_DELIVERED, order_pb2.ORDER_STATUS_CANCELLED


def order(order_id: str = "1", status: Any = DELIVERED) -> order_pb2.Order:
    """An order of the shopper."""
    item = order_pb2.OrderItem(line_number=1, quantity=3, cancelled_quantity=1)
    return order_pb2.Order(
        order_id=order_id, status=status, external_reference=SCENARIO.name, items=[item], version=2
    )


def payment() -> payment_pb2.Payment:
    """A payment with the amount that was captured for the order."""
    return payment_pb2.Payment(order_id="1", captured_amount=Money(currency_code="GBP", units=1))


KEPT = Story(scenario=SCENARIO, order_id="1", captured=True, cancelled_units={1: 1})
BROKEN = {
    "placed": (facts_with(), KEPT),
    "captured": (facts_with(orders={"1": order()}), KEPT),
    "cancelled": (
        facts_with(orders={"1": order()}),
        Story(scenario=SCENARIO, order_id="1", cancelled=True),
    ),
    "cancelled units": (
        facts_with(orders={"1": order()}),
        Story(scenario=SCENARIO, order_id="1", cancelled_units={1: 2}),
    ),
    "return": (
        facts_with(orders={"1": order()}),
        Story(scenario=SCENARIO, order_id="1", return_ids=["r"]),
    ),
    "twice": (
        facts_with(orders={"1": order(), "2": order("2")}),
        Story(scenario=SCENARIO, order_id="1"),
    ),
}


def test_verdict_without_a_broken_guarantee_is_empty() -> None:
    """The verdict reports nothing where the services hold what they answered, or refused the
    order.
    """
    assert (
        list(
            verdict.client_answers(facts_with(orders={"1": order()}, payments=[payment()]), [KEPT])
        )
        == []
    )
    assert list(verdict.client_answers(facts_with(), [Story(scenario=SCENARIO)])) == [], (
        "a refused order has no guarantee"
    )


@pytest.mark.parametrize("what", BROKEN)
def test_verdict_reports_each_broken_guarantee(what: str) -> None:
    """The verdict names an answer that the services' records contradict."""
    facts, story = BROKEN[what]
    assert [each.check for each in verdict.client_answers(facts, [story])] == [f"chaos.{what}"]


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        (DELIVERED, True),
        (CANCELLED, True),
        (order_pb2.ORDER_STATUS_PENDING, False),
        (order_pb2.ORDER_STATUS_SHIPPED, False),
    ],
)
def test_verdict_reports_an_order_in_a_transient_status(status: Any, rests: bool) -> None:
    """Only an order in an end status is at rest."""
    assert (not list(verdict.resting(facts_with(orders={"1": order(status=status)})))) == rests


def test_resting_with_a_deferred_event_is_reported() -> None:
    """The verdict reports a deferred event when all else is at rest. The audit reports failed
    events.
    """
    states = (
        ops_service_pb2.FAILED_EVENT_STATE_DEFERRED,
        ops_service_pb2.FAILED_EVENT_STATE_FAILED,
    )
    events = [ops_service_pb2.FailedEvent(event_id=str(state), state=state) for state in states]
    [found] = verdict.resting(facts_with(failed={"order": events}))
    assert (found.check, found.subject) == ("chaos.resting", f"event {states[0]} for ")


def transition(version: int, old: Any, new: Any) -> order_pb2.OrderTransition:
    """A row of a history."""
    return order_pb2.OrderTransition(order_version=version, old_status=old, new_status=new)


PENDING, CONFIRMED = order_pb2.ORDER_STATUS_PENDING, order_pb2.ORDER_STATUS_CONFIRMED


@pytest.mark.parametrize(
    ("transitions", "faults"),
    [
        ([transition(1, 0, PENDING), transition(2, PENDING, CANCELLED)], 0),
        ([transition(1, 0, PENDING), transition(2, PENDING, PENDING)], 0),
        ([transition(1, 0, PENDING), transition(3, PENDING, CANCELLED)], 1),
        ([transition(1, 0, PENDING), transition(2, CONFIRMED, CANCELLED)], 1),
        ([transition(1, 0, CANCELLED), transition(2, CANCELLED, CONFIRMED)], 1),
    ],
)
def test_verdict_reports_illegal_moves_in_a_history(
    transitions: list[order_pb2.OrderTransition], faults: int
) -> None:
    """The verdict reports a gap of versions, a changed starting status and a move that no table
    permits. A row for cancelled units is no move.
    """
    assert len(list(verdict._history(order(), transitions))) == faults
