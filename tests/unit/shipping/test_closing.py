"""Closed orders, cancelled fulfilments, and versions that are too high."""

from collections.abc import Callable

import pytest

from chassis.values.errors import Refused
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.model.commands import CloseFulfillment, CloseOrder
from shipping_svc.model.records import ClosedFulfillment, ClosedOrder, is_closed
from tests.unit.shipping.samples import (
    FULFILLMENT,
    NOON,
    ORDER,
    changed,
    create_shipment,
    envelope,
    shipment,
    withdraw_shipment,
)


def test_latest_closed_attempt_of_order_is_stored() -> None:
    """For every order of the events the latest closed attempt is stored; a repeat changes
    nothing.
    """
    first = envelope(CloseOrder, target=ORDER, attempt=1, status="failed", version=4)
    last = changed(first, attempt=2, status="cancelled", version=9)
    for ways in ([first, last], [last, first], [last, first, last]):
        order = None
        for command in ways:
            order = decide_order(order, command, NOON).record
        assert order == ClosedOrder(
            order_id=ORDER, attempt=2, status="cancelled", version=9, close_time=NOON
        )


@pytest.mark.parametrize(
    ("closed_attempt", "attempt", "is_expected"),
    [(None, 1, False), (1, 1, True), (2, 1, True), (1, 2, False)],
)
def test_order_is_closed_per_attempt(
    closed_attempt: int | None, attempt: int, is_expected: bool
) -> None:
    """A closed attempt and the earlier ones are not shipped; a later one is."""
    order = (
        ClosedOrder(
            order_id=ORDER, attempt=closed_attempt, status="failed", version=4, close_time=NOON
        )
        if closed_attempt
        else None
    )
    assert is_closed(order, attempt) is is_expected


@pytest.mark.parametrize("known", [True, False])
def test_forged_version_is_refused(known: bool) -> None:
    """A version of 2^60 of a fulfilment, of its withdrawal or of a closed order is not stored, with
    and without a stored one.
    """
    is_closed = (
        ClosedOrder(order_id=ORDER, attempt=1, status="cancelled", version=4, close_time=NOON)
        if known
        else None
    )
    order_closing = envelope(CloseOrder, target=ORDER, attempt=1, status="cancelled", version=2**60)
    fulfillment_closing = envelope(CloseFulfillment, target=FULFILLMENT, version=2**60)
    refused: list[Callable[[], object]] = [
        lambda: decide(
            shipment() if known else None, create_shipment(fulfillment_version=2**60), NOON
        ),
        lambda: decide(
            shipment("created") if known else shipment(), withdraw_shipment(version=2**60), NOON
        ),
        lambda: decide_order(is_closed, order_closing, NOON),
        lambda: decide_fulfillment(
            ClosedFulfillment(FULFILLMENT, 4, NOON) if known else None, fulfillment_closing, NOON
        ),
    ]
    for attempt in refused:
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.reason == "VERSION_JUMP"


def test_first_event_of_a_fulfilment_may_have_a_high_version() -> None:
    """Each scan raises a fulfilment's version without an event: the first event may have version
    10,001.
    """
    assert (
        decide(None, create_shipment(fulfillment_version=10_001), NOON).record.fulfillment_version
        == 10_001
    )
    fulfillment_closing = envelope(CloseFulfillment, target=FULFILLMENT, version=10_001)
    assert decide_fulfillment(None, fulfillment_closing, NOON).record.version == 10_001
