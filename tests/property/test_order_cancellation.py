"""Any sequence of requests and events of an order: units and money always add up, and
nothing is priced anew.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid5

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from fulfillment_svc.lifecycle import Status as WorkStatus
from fulfillment_svc.model.records import Allocation as RemainingAllocation
from fulfillment_svc.model.records import Line as PicklistLine
from fulfillment_svc.model.records import RemainingUnits, remaining_by_line
from order_svc.decisions.deciders import decide
from order_svc.decisions.transitions import allocated
from order_svc.lifecycle import MOVES, FulfillmentState, ReturnKind, ShipmentOutcome, Status
from order_svc.model.events import ItemsCancelled, StatusChanged
from order_svc.model.records import Allocation, Line, Order
from tests.property.test_order_prices import checkouts
from tests.unit.fulfillment.samples import KEY, fulfillment_in
from tests.unit.order.samples import (
    NOW,
    cancel,
    cancel_items,
    fulfillment_status,
    pay,
    place,
    refund,
    ship,
    shipment_outcome,
)

WAREHOUSES = ("london", "paris", "oslo")
RESERVATION = UUID(int=1)


@st.composite
def placed(draw: st.DrawFn) -> Order:
    """An order of any lines, amounts and warehouses."""
    of = draw(checkouts())
    order_id = UUID(int=draw(st.integers(1, 2**100)))
    allocated_warehouses = WAREHOUSES[: draw(st.integers(1, 3))]
    return decide(None, replace(place(of, *allocated_warehouses), target=order_id), NOW).record


def whole(order: Order) -> None:
    """Checks the invariants of every order."""
    for line in order.lines:
        assert 0 <= line.cancelled <= line.quantity
        assert sum(allocation.quantity for allocation in line.allocations) == line.remaining
        assert all(allocation.quantity >= 0 for allocation in line.allocations)
        assert line.cost_of(0) == 0
        assert line.cost_of(line.quantity) == line.total
    assert order.total == order.placed_total - order.cancelled_amount
    assert order.total >= 0
    assert order.refunded <= order.captured
    assert not any(
        fulfillment.outcome and fulfillment.deliver_time for fulfillment in order.fulfillments
    )
    assert (order.expire_time is not None) == (order.status is Status.PENDING)


@given(placed(), st.data())
def test_shares_add_up_after_any_cancellations(order: Order, data: st.DataObject) -> None:
    """Each cancellation lowers the total by exactly its units' frozen share; the shares never
    change; the last unit ends the order.
    """
    shares = [line.shares for line in order.lines]
    paid_back = 0
    while order.status is not Status.CANCELLED:
        line = data.draw(st.sampled_from([line for line in order.lines if line.remaining]))
        units = data.draw(st.integers(1, line.remaining) | st.just(line.remaining))
        fewer = decide(order, cancel_items(order, {line.number: units}), NOW).record
        share = line.cost_of(line.cancelled + units) - line.cost_of(line.cancelled)
        assert order.total - fewer.total == share >= 0
        paid_back += share
        order = fewer
        whole(order)
        if data.draw(st.booleans()) and paid_back > order.placed_total // 2:
            break
    assert [line.shares for line in order.lines] == shares
    assert paid_back + order.total == order.placed_total
    if order.status is Status.CANCELLED:
        assert order.total == order.shipping


@given(placed(), st.data())
def test_cost_of_units_is_the_sum_of_their_shares(order: Order, data: st.DataObject) -> None:
    """However the units are cut into pieces, the pieces cost together what the whole does."""
    line: Line = data.draw(st.sampled_from(order.lines))
    cuts = sorted(data.draw(st.lists(st.integers(0, line.quantity), max_size=5)))
    bounds = [0, *cuts, line.quantity]
    pieces = [line.cost_of(upper) - line.cost_of(lower) for lower, upper in pairwise(bounds)]
    assert sum(pieces) == line.total
    assert min(pieces) >= 0


UNITS = st.dictionaries(st.sampled_from(WAREHOUSES), st.integers(1, 4), min_size=1)


@given(UNITS, UNITS)
def test_order_and_fulfilment_keep_the_same_units(
    known: dict[str, int], committed: dict[str, int]
) -> None:
    """For any new commit of a line that has lost units, in any warehouse: both follow the order's
    stored allocations, and end with the same.
    """
    assume(sum(committed.values()) >= sum(known.values()))
    line = Line(
        number=1,
        sku="LAMP",
        quantity=sum(known.values()),
        cancelled=0,
        unit_price=100,
        discount=0,
        tax=0,
        allocations=tuple(
            Allocation(warehouse_id=at, reservation_id=RESERVATION, quantity=n)
            for at, n in known.items()
        ),
    )
    [placed_line] = allocated(
        (line,),
        {
            1: [
                Allocation(warehouse_id=at, reservation_id=RESERVATION, quantity=n)
                for at, n in committed.items()
            ]
        },
    )
    remaining = RemainingUnits(
        1, 1, tuple(RemainingAllocation(at, 1, n) for at, n in known.items())
    )
    fulfillments = [
        replace(
            fulfillment_in(
                WorkStatus.PLANNING, (PicklistLine(line_number=1, sku="LAMP", quantity=n),)
            ),
            key=replace(KEY, warehouse_id=at),
        )
        for at, n in committed.items()
    ]
    counts = remaining_by_line(remaining, fulfillments)
    cut = {at: min(n, counts[at, 1]) for at, n in committed.items()}
    assert {
        allocation.warehouse_id: allocation.quantity for allocation in placed_line.allocations
    } == {at: n for at, n in cut.items() if n}


# A kind is as frequent as its number of entries.
COMMAND_KINDS = [
    "cancel",
    *["cancel items"] * 2,
    "pay",
    *["ship"] * 4,
    "end",
    *["refund"] * 2,
    *["work"] * 8,
]


@st.composite
def commands(draw: st.DrawFn, order: Order, version: int) -> Envelope[Any]:
    """A request or an event of the order, possible or not."""
    where = draw(st.sampled_from(WAREHOUSES))
    fulfillment, shipment = (
        uuid5(order.id, f"{what} {where}") for what in ("fulfillment", "shipment")
    )
    line = draw(st.sampled_from(order.lines))
    match draw(st.sampled_from(COMMAND_KINDS)):
        case "cancel":
            return cancel(order)
        case "cancel items":
            return cancel_items(order, {line.number: draw(st.integers(1, max(1, line.remaining)))})
        case "pay":
            return pay(
                order,
                captured=order.money(draw(st.sampled_from([order.total, order.placed_total]))),
            )
        case "ship":
            delivered = draw(st.sampled_from([None, NOW]))
            return ship(order, where, delivered, shipment_id=shipment)
        case "end":
            return shipment_outcome(
                order, where, draw(st.sampled_from(ShipmentOutcome)), shipment_id=shipment
            )
        case "refund":
            captured = order.placed_total
            return refund(
                order, draw(st.sampled_from([0, captured // 2, captured])), captured=captured
            )
        case _:
            units = {line.number: draw(st.integers(0, line.quantity)) for line in order.lines}
            stage = draw(
                st.sampled_from([w for w in FulfillmentState if w is not FulfillmentState.EXPECTED])
            )
            return fulfillment_status(
                order,
                where,
                stage,
                version,
                fulfillment_id=fulfillment,
                units=units,
                committed=True,
                reason="SHORT_PICK",
            )


@settings(deadline=None)
@given(placed(), st.data())
def test_any_sequence_leaves_a_whole_order_and_a_gapless_story(
    order: Order, data: st.DataObject
) -> None:
    """Units, allocations and money agree after each step; versions rise by one with each event;
    statuses move along the table; what is over stays over; what is recalled has left, and was
    not wanted.
    """
    if data.draw(st.sampled_from([True, True, False])):
        order = decide(order, pay(order), NOW).record
    for n in range(data.draw(st.integers(1, 14))):
        command = data.draw(commands(order, n + 1))
        try:
            decided = decide(order, command, NOW)
        except Failure:
            continue
        own = [
            event for event in decided.events if isinstance(event, StatusChanged | ItemsCancelled)
        ]
        assert [event.transition.version for event in own] == list(
            range(order.version + 1, decided.record.version + 1)
        )
        for event in own:
            assert event.transition.old is not None
            assert (
                event.transition.new is event.transition.old
                if isinstance(event, ItemsCancelled)
                else event.transition.new in MOVES[event.transition.old]
            )
            assert event.order.version == event.transition.version
        if not MOVES[order.status]:
            assert own == []
        order = decided.record
        whole(order)
        recalled_units_have_shipped(order)
        assert decide(order, command, NOW).record == order if is_event(command) else True


def recalled_units_have_shipped(order: Order) -> None:
    for line in order.lines:
        shipped = sum(allocation.shipped or 0 for allocation in line.allocations)
        announced = sum(
            order_return.line(line.number).announced
            for order_return in order.returns
            if order_return.kind is ReturnKind.RECALL
        )
        assert announced <= shipped


def is_event(command: Envelope[Any]) -> bool:
    """Whether a second event with the same content changes nothing. A request is guarded by its
    request_id instead, and a late event is recorded each time.
    """
    return command.actor == "test" and type(command.command).__name__ in (
        "ApplyFulfillmentStatus",
        "ApplyShipmentOutcome",
        "ApplyRefund",
    )
