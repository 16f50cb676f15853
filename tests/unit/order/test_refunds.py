"""The order's decisions about refunds and late payments."""

from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Refused
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    PaymentStatus,
    Status,
)
from order_svc.model.events import StatusChanged
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    cancel,
    changed,
    pay,
    placed,
    pounds,
    refund,
    ship,
)


def test_refunds_move_the_payment_axis_by_their_sum() -> None:
    """The axis moves to partly, then to wholly refunded; an older sum changes nothing. Before the
    delivery the status stays.
    """
    order = at(Status.CONFIRMED)
    fulfillment, whole = refund(order, 100), refund(order, order.total)
    partly = after(order, fulfillment)
    assert (partly.payment, partly.refunded, partly.version) == (
        PaymentStatus.PARTIALLY_REFUNDED,
        100,
        order.version,
    )
    wholly = after(partly, whole)
    assert (wholly.payment, wholly.status) == (PaymentStatus.REFUNDED, Status.CONFIRMED)
    assert after(wholly, fulfillment) is wholly


@pytest.mark.parametrize("events", list(permutations(["paid", "delivered", "refunded"])))
def test_full_refund_of_a_delivered_order_in_every_order(
    events: tuple[str, ...],
) -> None:
    """Delivered and then refunded are both written; an event that waits for the payment comes again
    after it.
    """
    order = placed()
    envelopes: dict[str, Envelope[Any]] = {
        "paid": pay(order),
        "delivered": ship(order, "london", NOW),
        "refunded": refund(order, order.total),
    }
    waiting, steps = [envelopes[name] for name in events], []
    while waiting:
        try:
            decided = decide(order, waiting[0], NOW)
        except Deferred:
            waiting.append(waiting.pop(0))
            continue
        order, waiting = decided.record, waiting[1:]
        steps += [
            event.transition.new for event in decided.events if isinstance(event, StatusChanged)
        ]
    assert steps == [
        Status.CONFIRMED,
        Status.PROCESSING,
        Status.SHIPPED,
        Status.DELIVERED,
        Status.REFUNDED,
    ]
    assert (order.payment, order.refunded) == (PaymentStatus.REFUNDED, order.captured)


def test_free_order_is_never_refunded() -> None:
    """No money was captured: delivered is the last status."""
    delivered = at(Status.DELIVERED)
    free = replace(delivered, captured=0)
    assert after(free, refund(free, 0, captured=0)) is free


@pytest.mark.parametrize("refund_first", [False, True])
def test_late_payment_of_a_cancelled_order_is_a_late_event(refund_first: bool) -> None:
    """A capture after the cancellation: the order stays cancelled, and is paid, then refunded. Its
    history has the capture once, in either order of the events and however often they come.
    """
    order = at(Status.PENDING)
    cancelled = after(order, cancel(order))
    assert cancelled.payment is PaymentStatus.CANCELLED
    events = [pay(order), refund(order, order.total)]
    late = after(cancelled, *(reversed(events) if refund_first else events))
    repeated = after(late, pay(order), refund(order, order.total))
    for changed_order in (late, repeated):
        assert (changed_order.captured, changed_order.payment, changed_order.status) == (
            order.total,
            PaymentStatus.REFUNDED,
            Status.CANCELLED,
        )
        assert [event.reason for event in changed_order.late_events] == ["PAYMENT_CONFIRMED"]
        assert changed_order.version == cancelled.version


def test_late_payment_of_a_cancelled_order_completes_its_payment() -> None:
    """Until its refund, the payment axis of the cancelled order is completed."""
    order = at(Status.PENDING)
    assert after(order, cancel(order), pay(order)).payment is PaymentStatus.COMPLETED


def test_refund_of_a_failed_order_sets_its_payment_axis() -> None:
    """The order is failed, and refunded: a retry starts with a new payment."""
    order = at(Status.FAILED)
    assert after(order, refund(order, order.total)).payment is PaymentStatus.REFUNDED


def test_refund_in_another_currency_is_refused() -> None:
    """Its amount cannot belong to this order."""
    order = at(Status.CONFIRMED)
    with pytest.raises(Refused):
        after(order, changed(refund(order, 0), refunded=replace(pounds(1), currency="EUR")))


def test_failed_refund_changes_no_amount() -> None:
    """The payment's sums are unchanged, and so is the order."""
    order = at(Status.CONFIRMED)
    assert (
        after(order, refund(order, 0, failure_code="nothing_refundable", return_id=uuid4()))
        is order
    )
