"""Events of orders and shipments, repeated and in every order: the fulfilment ends alike."""

from itertools import permutations
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import FORWARD, Status
from fulfillment_svc.model.commands import (
    ShipmentCommand,
)
from fulfillment_svc.model.events import LinesChanged
from fulfillment_svc.model.records import (
    OrderFulfillments,
    VoidLabel,
)
from tests.property.fulfillment_life import EVENTS, counts, events_of
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    SHIPMENT,
    changed,
    fulfillment_in,
    order_fulfillments,
)


def delivered(
    record: OrderFulfillments | None, events: tuple[Envelope[Any], ...]
) -> OrderFulfillments:
    """Returns the record after the events. Deferred events come again, until none is left or none
    can be applied.
    """
    remaining = list(events)
    while remaining:
        waiting = []
        for event in remaining:
            try:
                record = decide(record, event, NOW).record
            except Deferred:
                waiting.append(event)
        if waiting == remaining:
            break
        remaining = waiting
    assert record
    return record


@pytest.mark.parametrize("status", FORWARD[FORWARD.index(Status.READY) :])
def test_events_twice_in_every_order_end_alike(status: Status) -> None:
    """Shipment, delivery and a second confirmation, each twice, in all orders: completed, and
    the same record but for nothing.
    """
    events = tuple(
        EVENTS[name](fulfillment_in(status)) for name in ("ship", "complete", "confirmed")
    )
    records = [
        delivered(order_fulfillments(fulfillment_in(status)), order)
        for order in permutations(events * 2)
    ]
    assert {each.status for record in records for each in record.fulfillments} == {Status.COMPLETED}
    assert all(record == records[0] for record in records)


def test_shipment_beside_a_cut_is_delivered_in_every_order() -> None:
    """The cut, the event of the label and that of the delivery, each twice, in all orders, on
    what is ready: completed with its shipment and with all units of its label, and no event waits.
    """
    for order in set(permutations(["cut", "ship", "complete"] * 2)):
        record = order_fulfillments(fulfillment_in(Status.READY))
        for name in order:
            record = decide(record, EVENTS[name](fulfillment_in(Status.READY)), NOW).record
        [ended] = record.fulfillments
        assert (ended.status, ended.shipment_id, ended.withdraw_reason) == (
            Status.COMPLETED,
            SHIPMENT,
            None,
        )
        assert counts(ended.lines) == counts(LINES)


def test_void_beside_a_cut_unpacks_in_every_order() -> None:
    """The cut and what shipping says then (void, and reported all the same), each twice, in all
    orders in which shipping answers the withdrawal, with late events of the void label between:
    packing without the cut units, and what shipped is published once.
    """
    late = ["ship", "complete", "gone"]
    for order in set(permutations(["cut", "void", "void and gone", *late])):
        record, shipped = order_fulfillments(fulfillment_in(Status.READY)), list[VoidLabel]()
        for name in ("cut", "void", *order, *order):
            event = EVENTS[name](fulfillment_in(Status.READY))
            if isinstance(event.command, ShipmentCommand):
                event = changed(event, fulfillment_version=7)
            decision = decide(record, event, NOW)
            record = decision.record
            shipped += [
                event.shipped_after_void
                for event in events_of(decision)
                if isinstance(event, LinesChanged) and event.shipped_after_void
            ]
        [fulfillment] = record.fulfillments
        assert (fulfillment.status, fulfillment.shipment_id, fulfillment.withdraw_reason) == (
            Status.PACKING,
            None,
            None,
        )
        assert counts(fulfillment.lines) == ((2, 0, 0, 0), (1, 0, 0, 0), (2, 1, 0, 0))
        assert shipped == [
            VoidLabel(SHIPMENT, {line.line_number: line.quantity for line in LINES}, shipped=True)
        ]


@pytest.mark.parametrize("confirmed", ["confirmed", "confirmed, commit pending"])
@pytest.mark.parametrize("also", [[], ["cut"], ["cut a line"], ["cut", "cut a line"]])
def test_cancelled_order_in_every_order_stays_cancelled(also: list[str], confirmed: str) -> None:
    """Confirmation, cuts and cancellation, each twice, in all orders: nothing lives, and every
    unit goes back.
    """
    names = [confirmed, *also, "cancel"]
    for order in permutations(names):
        for again in (order, order[::-1]):
            record = delivered(
                None,
                tuple(EVENTS[name](fulfillment_in(Status.PENDING)) for name in (*order, *again)),
            )
            assert [(each.status, counts(each.lines)) for each in record.fulfillments] == [
                (Status.CANCELLED, tuple((0, line.quantity, 0, 0) for line in LINES))
            ]


def test_cuts_in_every_order_leave_the_same_units() -> None:
    """Confirmation, two cuts and the pending commit, each twice, in all orders: the same
    units are left, the same cut.
    """
    remaining = set()
    for order in permutations(["confirmed, commit pending", "record commit", "cut", "cut a line"]):
        record = delivered(
            None, tuple(EVENTS[name](fulfillment_in(Status.PENDING)) for name in (*order, *order))
        )
        remaining |= {(each.status, counts(each.lines)) for each in record.fulfillments}
    assert remaining == {(Status.PLANNING, ((1, 1, 0, 0), (0, 1, 0, 0), (2, 1, 0, 0)))}
