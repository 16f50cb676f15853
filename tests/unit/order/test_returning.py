"""What becomes of an order's units on their way back: who may send what, what is accepted, what
it is refunded with.
"""

from dataclasses import replace
from uuid import uuid4

import pytest

from chassis.values.errors import Deferred, Invalid, NotFound, Refused
from order_svc.decisions import returning
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    Disposition,
    FulfillmentState,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.records import Allocation, Order, Return
from tests.unit.order.returns import (
    arrived,
    ask,
    ask_money,
    context,
    delivered,
    inspect,
    move,
    receive,
    returned,
    walked,
)
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    cancel,
    cancel_items,
    changed,
    checkout,
    fulfillment_status,
    pay,
    place,
    placed,
    refund,
    report,
    ship,
    shipment_outcome,
)

RESTOCK, DAMAGED, NONE = Disposition.RESTOCK, Disposition.DAMAGED, Disposition.NONE


def shown(order_return: Return) -> tuple[str, int, int]:
    return order_return.status.value, order_return.refund, order_return.version


def test_a_whole_return_is_refunded_with_the_frozen_price_of_its_lines() -> None:
    """All units of both lines passed: refunded with what the lines cost, shipping left out; the
    order shows them as come back.
    """
    order, order_return = arrived(delivered(), {1: 3, 2: 2})
    order = after(order, inspect(order_return, {1: (3, 0, 0), 2: (2, 0, 0)}))
    [order_return] = order.returns
    assert shown(order_return) == ("inspected", sum(line.total for line in order.lines), 4)
    assert order_return.refund == order.total - order.shipping
    assert (order.return_progress, order.stock, order.status) == (
        ReturnProgress.FULL,
        StockStatus.RETURNED,
        Status.DELIVERED,
    )
    assert [order.returned(line.number) for line in order.lines] == [3, 2]
    order = returning.refunded(order, order_return.id, order_return.refund, context(order)).record
    assert (order.returns[0].status, order.returns[0].refunded) == (
        ReturnStatus.CLOSED,
        order_return.refund,
    )
    assert order.return_progress is ReturnProgress.FULL


def test_returns_one_unit_at_a_time_are_refunded_with_exactly_what_the_line_costs() -> None:
    """Three lamps for 31.00 do not cost the same to the penny; one by one they are refunded with
    31.00 all the same.
    """
    order, refunds = delivered(), []
    for _ in range(3):
        order, order_return = arrived(order, {1: 1})
        order = after(order, inspect(order_return, {1: (1, 0, 0)}))
        refunds.append(order.returns[-1].refund)
    [lamps] = [line for line in order.lines if line.number == 1]
    assert sum(refunds) == lamps.total == 3100
    assert refunds == [lamps.cost_of(n + 1) - lamps.cost_of(n) for n in range(3)]


def test_units_are_inspected_in_parts_and_the_last_one_makes_it_inspected() -> None:
    """While one that arrived was not looked at it stays received, with what was found so far;
    then it is inspected.
    """
    order, order_return = arrived(delivered(), {1: 3})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    assert (order.returns[0].status, order.returns[0].line(1).passed, order.return_progress) == (
        ReturnStatus.RECEIVED,
        1,
        ReturnProgress.OPEN,
    )
    assert order.returns[0].refund == order.lines[0].cost_of(1)
    order = after(order, inspect(order_return, {1: (0, 1, 0)}))
    assert (order.returns[0].status, order.returns[0].refund) == (
        ReturnStatus.RECEIVED,
        order.lines[0].cost_of(2),
    )
    order = after(order, inspect(order_return, {1: (0, 1, 1)}))
    line = order.returns[0].line(1)
    assert (order.returns[0].status, line.passed, line.failed, line.unrefunded) == (
        ReturnStatus.INSPECTED,
        1,
        2,
        1,
    )
    assert order.returns[0].refund == order.lines[0].cost_of(2)


@pytest.mark.parametrize(
    ("found", "units"),
    [((2, 0, 0), 2), ((0, 2, 0), 2), ((1, 1, 1), 1), ((0, 2, 1), 1), ((2, 0, 1), 1)],
)
def test_failed_units_are_refunded_too_unless_the_inspector_says_no(
    found: tuple[int, int, int], units: int
) -> None:
    """Passed or failed, a unit is refunded with its share; those that the inspector refuses are
    not.
    """
    order, order_return = arrived(delivered(), {1: 2})
    order = after(order, inspect(order_return, {1: found}))
    assert order.returns[0].refund == order.lines[0].cost_of(units)


def test_units_inspected_in_parts_are_refunded_like_units_inspected_at_once() -> None:
    """Three lamps for 31.01, one after the other, of one return: what was accepted before is not
    counted again.
    """
    order = delivered()
    order = replace(order, lines=(replace(order.lines[0], tax=201), order.lines[1]))
    order, order_return = arrived(order, {1: 3})
    for units in (1, 2, 3):
        order = after(order, inspect(order_return, {1: (1, 0, 0)}))
        assert order.returns[0].refund == order.lines[0].cost_of(units)


def test_nothing_to_refund_closes_it_at_once() -> None:
    """All refused by the inspector: no event of a refund will come, so inspected and closed are
    two steps of one decision.
    """
    order, order_return = arrived(delivered(), {1: 2})
    decision = decide(order, inspect(order_return, {1: (0, 2, 2)}), NOW)
    assert [(step.new.value, step.reason) for step in walked(decision)] == [
        ("inspected", "RETURN_INSPECTED"),
        ("closed", "NOTHING_REFUNDABLE"),
    ]
    # facts are any objects
    assert [fact.order_return.version for fact in decision.facts] == [4, 5]  # type: ignore[attr-defined]
    assert decision.record.returns[0].refund == 0


def test_less_than_announced_may_arrive_and_the_rest_can_be_returned_again() -> None:
    """Announced three, one arrived: once inspected, it holds one, and the other two can be in
    another return.
    """
    order = returned(delivered(), {1: 3})
    [order_return] = order.returns
    order = after(order, move(order_return, ReturnStatus.APPROVED), receive(order_return, {1: 1}))
    assert returning.returnable_units(order, 1) == 0
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    assert order.returns[0].status is ReturnStatus.INSPECTED
    assert returning.returnable_units(order, 1) == 2
    assert after(order, ask(order, {1: 2})).return_progress is ReturnProgress.OPEN


def test_receive_more_than_announced_is_bounded_by_delivered_units() -> None:
    """Of three lamps one announced: three may arrive, and bulbs too; a fourth lamp, or one that
    is in another return, may not.
    """
    order = returned(delivered(), {1: 1})
    order_return = order.returns[0]
    order = after(order, move(order_return, ReturnStatus.APPROVED))
    assert after(order, receive(order_return, {1: 3, 2: 2})).returns[0].line(2).received == 2
    for lines, subjects in (
        ({1: 4}, ["line 1"]),
        ({1: 4, 2: 3, 3: 1}, ["line 1", "line 2", "line 3"]),
    ):
        with pytest.raises(Refused) as refused:
            after(order, receive(order_return, lines))
        assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
        assert [violation.subject for violation in refused.value.violations] == subjects
    held = returned(order, {1: 1})
    with pytest.raises(Refused):
        after(held, receive(order_return, {1: 3}))
    assert after(held, receive(order_return, {1: 2})).returns[-1].line(1).received == 2


def test_a_return_arrives_at_one_warehouse() -> None:
    """Where its first units have arrived, the others arrive too."""
    order = returned(delivered(), {1: 2})
    order_return = order.returns[0]
    order = after(
        order, move(order_return, ReturnStatus.APPROVED), receive(order_return, {1: 1}, "paris")
    )
    assert order.returns[0].warehouse_id == "paris"
    with pytest.raises(Invalid) as refused:
        after(order, receive(order_return, {1: 1}, "london"))
    assert [violation.subject for violation in refused.value.violations] == ["warehouse_id"]


def test_more_cannot_be_inspected_than_has_arrived() -> None:
    """INSPECTION_EXCEEDS_RECEIPT names each line, those that never arrived included; nothing is
    taken in.
    """
    order, order_return = arrived(delivered(), {1: 2})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    with pytest.raises(Refused) as refused:
        after(order, inspect(order_return, {1: (1, 1, 0), 2: (1, 0, 0)}))
    assert refused.value.reason == "INSPECTION_EXCEEDS_RECEIPT"
    assert [violation.subject for violation in refused.value.violations] == ["line 1", "line 2"]


@pytest.mark.parametrize(
    ("lines", "subjects"), [({1: 4}, ["line 1"]), ({3: 1}, ["line 3"]), ({1: 3, 2: 3}, ["line 2"])]
)
def test_nobody_returns_what_he_does_not_have(lines: dict[int, int], subjects: list[str]) -> None:
    """More units than were ordered, or a line that there is not: each is named."""
    for command in (
        ask(order := delivered(), lines),
        ask_money(order, {number: (n, NONE) for number, n in lines.items()}),
    ):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
        assert [violation.subject for violation in refused.value.violations] == subjects


def test_cancelled_units_cannot_be_returned_and_returned_ones_are_priced_after_them() -> None:
    """Of three lamps one was cancelled: two can come back, refunded with what the second and the
    third unit cost.
    """
    order = delivered()
    lamps = replace(order.lines[0], cancelled=1)
    order = replace(order, lines=(lamps, order.lines[1]))
    with pytest.raises(Refused):
        after(order, ask(order, {1: 3}))
    order, order_return = arrived(order, {1: 2})
    order = after(order, inspect(order_return, {1: (2, 0, 0)}))
    assert order.returns[0].refund == lamps.total - lamps.cost_of(1)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.REFUNDED])
def test_only_what_was_delivered_can_be_returned(status: Status) -> None:
    """Delivered and refunded orders have something to return; any other says where it stands."""
    order = at(status)
    if status is Status.DELIVERED:
        order = after(order, report(order, "london"))
        for good in (order, replace(order, status=Status.REFUNDED)):
            assert after(good, ask(good, {1: 1})).returns
        return
    for command in (ask(order, {1: 1}), ask_money(order, {1: (1, NONE)})):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert (refused.value.reason, refused.value.metadata) == (
            "ORDER_NOT_RETURNABLE",
            {"status": status},
        )


@pytest.mark.parametrize("status", [ReturnStatus.REJECTED, ReturnStatus.CANCELLED])
def test_what_is_not_to_come_holds_nothing(status: ReturnStatus) -> None:
    """Rejected or called off, its units can be in another return, and the order shows none."""
    order = returned(delivered(), {1: 3})
    assert (returning.returnable_units(order, 1), order.return_progress) == (0, ReturnProgress.OPEN)
    order = after(order, move(order.returns[0], status))
    assert (returning.returnable_units(order, 1), order.return_progress) == (3, ReturnProgress.NONE)


@pytest.mark.parametrize(
    ("disposition", "counts", "progress"),
    [
        (RESTOCK, (2, 0, 0), ReturnProgress.PARTIAL),
        (DAMAGED, (0, 2, 0), ReturnProgress.PARTIAL),
        (NONE, (0, 0, 2), ReturnProgress.NONE),
    ],
)
def test_a_refund_without_goods_is_inspected_from_the_start(
    disposition: Disposition, counts: tuple[int, int, int], progress: ReturnProgress
) -> None:
    """One step: the units are accepted as the caller says, refunded by their shares, and can be
    returned no more.
    """
    order = delivered()
    decision = decide(order, ask_money(order, {1: (2, disposition)}), NOW)
    [order_return], [step] = decision.record.returns, walked(decision)
    line = order_return.line(1)
    assert (step.old, step.new, order_return.version, order_return.kind) == (
        None,
        ReturnStatus.INSPECTED,
        1,
        ReturnKind.WITHOUT_GOODS,
    )
    assert (line.passed, line.failed, line.written_off) == counts
    assert order_return.refund == order.lines[0].cost_of(2)
    assert returning.returnable_units(decision.record, 1) == 1
    assert decision.record.return_progress is progress


def test_the_same_return_is_made_once_however_late_the_repeat() -> None:
    """The id names it: a repeat whose key is gone by now changes nothing, not even where its
    units are all taken.
    """
    order = delivered()
    for command in (ask(order, {1: 3}), ask_money(order, {2: (2, NONE)})):
        order = after(order, command)
        again = decide(order, command, NOW)
        assert again.record is order
        assert not again.facts


def test_an_unknown_return_is_not_found() -> None:
    """Whatever is asked of it; and of an order that there is not, ORDER_NOT_FOUND."""
    order, order_return = arrived(delivered(), {1: 1})
    unknown = replace(order_return, id=uuid4())
    for command in (
        move(unknown, ReturnStatus.APPROVED),
        receive(unknown, {1: 1}),
        inspect(unknown, {1: (1, 0, 0)}),
    ):
        with pytest.raises(NotFound) as missing:
            after(order, command)
        assert missing.value.reason == "RETURN_NOT_FOUND"
    with pytest.raises(NotFound) as missing:
        decide(None, ask(order, {1: 1}), NOW)
    assert missing.value.reason == "ORDER_NOT_FOUND"


def test_a_recall_is_approved_refunds_nothing_and_is_made_once() -> None:
    """A repeat makes none; more units make one of the rest; inspected it is
    closed, and gives no money.
    """
    order = replace(at(Status.DELIVERED), status=Status.CANCELLED)
    order = returning.recall(order, "london", {1: 2}, context(order)).record
    [order_return] = order.returns
    assert (order_return.kind, order_return.status, order_return.line(1).announced) == (
        ReturnKind.RECALL,
        ReturnStatus.APPROVED,
        2,
    )
    assert returning.recall(order, "london", {1: 2}, context(order)).record is order
    order = returning.recall(order, "london", {1: 3, 2: 1}, context(order)).record
    assert [(line.number, line.announced) for line in order.returns[1].lines] == [(1, 1), (2, 1)]
    with pytest.raises(Refused):
        after(order, receive(order_return, {1: 3}))  # more than left
    order = after(order, receive(order_return, {1: 2}), inspect(order_return, {1: (1, 1, 0)}))
    assert order.return_progress is ReturnProgress.OPEN
    order = after(
        order,
        receive(order.returns[0], {1: 1, 2: 1}),
        inspect(order.returns[0], {1: (1, 0, 0), 2: (0, 1, 0)}),
    )
    assert {(order_return.status, order_return.refund) for order_return in order.returns} == {
        (ReturnStatus.CLOSED, 0)
    }
    assert (order.return_progress, order.stock) == (ReturnProgress.FULL, StockStatus.RETURNED)


def test_return_before_the_fulfilments_report_is_deferred() -> None:
    """A delivery can be known before the report of what the parcel holds. A return waits for
    that report, and takes no unit that the picker did not find: the customer has two of three
    lamps.
    """
    order = at(Status.DELIVERED)
    for asked in (ask(order, {1: 1}), ask_money(order, {1: (1, Disposition.NONE)})):
        with pytest.raises(Deferred) as deferred:
            decide(order, asked, NOW)
        assert deferred.value.reason == "EVENT_AHEAD"
    order = after(
        order,
        fulfillment_status(
            order, "london", FulfillmentState.COMPLETED, 9, units={1: 2, 2: 2}, committed=True
        ),
    )
    with pytest.raises(Refused) as refused:
        decide(order, ask(order, {1: 3}), NOW)
    assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
    [order_return] = after(order, ask(order, {1: 2})).returns
    assert order_return.line(1).announced == 2


def test_the_end_of_an_order_counts_what_came_back_before_it() -> None:
    """One parcel of two came back and was taken in; then the order is cancelled: all that had
    left is back.
    """
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "london"))
    gone = replace(
        order.lines[0],
        allocations=tuple(replace(a, quantity=0, shipped=3) for a in order.lines[0].allocations),
        cancelled=3,
    )
    fulfillments = tuple(
        replace(fulfillment, outcome=ShipmentOutcome.RETURNED)
        if fulfillment.warehouse_id == "london"
        else fulfillment
        for fulfillment in order.fulfillments
    )
    order = replace(order, lines=(gone, order.lines[1]), fulfillments=fulfillments)
    order = after(order, fulfillment_status(order, "paris", FulfillmentState.PICKING, 2))
    [order_return] = order.returns
    order = after(order, receive(order_return, {1: 3}), inspect(order_return, {1: (3, 0, 0)}))
    assert order.return_progress is ReturnProgress.PARTIAL
    order = after(order, cancel(order))
    assert (order.status, order.return_progress, order.stock) == (
        Status.CANCELLED,
        ReturnProgress.FULL,
        StockStatus.RETURNED,
    )


def half_delivered() -> Order:
    """The lamps have come from London; the bulbs are on their way from Paris."""
    order = placed(None, "london", "paris")
    order = after(
        order, pay(order), report(order, "london"), report(order, "paris", FulfillmentState.SHIPPED)
    )
    return after(order, ship(order, "london", NOW), ship(order, "paris"))


def test_return_of_a_delivered_parcel_while_another_travels() -> None:
    """Units are counted by delivered parcels, not by the order's status: the lamps come back and
    are refunded, the bulbs are not there yet. Once they are delivered, they can be returned too,
    and the order goes on to delivered.
    """
    order = half_delivered()
    assert order.status is Status.SHIPPED
    for command in (ask(order, {1: 3, 2: 1}), ask_money(order, {2: (1, NONE)})):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert (refused.value.reason, [v.subject for v in refused.value.violations]) == (
            "RETURN_EXCEEDS_DELIVERED",
            ["line 2"],
        )
    order, order_return = arrived(order, {1: 2})
    order = after(order, inspect(order_return, {1: (2, 0, 0)}))
    assert (order.returns[0].refund, order.return_progress, order.status) == (
        order.lines[0].cost_of(2),
        ReturnProgress.PARTIAL,
        Status.SHIPPED,
    )
    order = after(order, ship(order, "paris", NOW), ask(order, {1: 1, 2: 2}))
    assert (order.status, len(order.returns)) == (Status.DELIVERED, 2)


def test_line_split_over_parcels_is_returned_by_parcel() -> None:
    """Of three lamps from two warehouses, the one that was delivered can come back; when the
    other parcel is lost, the line has given back exactly what it costs.
    """
    split = (Allocation("london", uuid4(), 1), Allocation("paris", uuid4(), 2))
    command = place(
        checkout(CheckoutLine(sku="LAMP", quantity=3, unit_price=1000, discount=100, tax=0))
    )
    order = decide(None, changed(command, allocations={1: split}), NOW).record
    order = after(
        order, pay(order), report(order, "london"), ship(order, "london", NOW), ship(order, "paris")
    )
    with pytest.raises(Refused):
        after(order, ask(order, {1: 2}))
    order, order_return = arrived(order, {1: 1})
    order = after(
        order,
        inspect(order_return, {1: (1, 0, 0)}),
        shipment_outcome(order, "paris", ShipmentOutcome.LOST),
    )
    assert order.lines[0].cancelled == 2
    assert order.returns[0].refund + order.cancelled_amount == order.lines[0].total == 2900
    assert order.total == order.placed_total - order.cancelled_amount


def test_return_after_a_cancellation_refunds_the_rest_of_a_line() -> None:
    """Three lamps cost 34, 33 and 33. One is returned, then one is cancelled, then the last one is
    returned: 100 went back, the amount that was published as cancelled stays, and the order becomes
    refunded.
    """
    split = (Allocation("london", uuid4(), 2), Allocation("paris", uuid4(), 1))
    command = place(
        checkout(CheckoutLine(sku="LAMP", quantity=3, unit_price=33, discount=0, tax=1), shipping=0)
    )
    order = decide(None, changed(command, allocations={1: split}), NOW).record
    order = after(order, pay(order), report(order, "london"), ship(order, "london", NOW))
    order, order_return = arrived(order, {1: 1})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    order = after(order, refund(order, 34, return_id=order_return.id, amount=34))
    order = after(order, cancel_items(order, {1: 1}))
    assert (order.total, order.cancelled_amount) == (67, 33)
    order = after(
        order, fulfillment_status(order, "paris", FulfillmentState.CANCELLED, 2), refund(order, 67)
    )
    order, order_return = arrived(order, {1: 1})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    assert ([order_return.refund for order_return in order.returns], order.cancelled_amount) == (
        [34, 33],
        33,
    )
    assert order.status is Status.DELIVERED
    order = after(order, refund(order, 100, return_id=order_return.id, amount=33))
    assert order.status is Status.REFUNDED


def test_parcels_of_a_cancelled_order_come_back_by_its_recall() -> None:
    """Delivered in spite of the recall, its units are the recall's, and not a customer's return
    as well.
    """
    order = placed(None, "london")
    order = after(
        order,
        pay(order),
        fulfillment_status(order, "london", FulfillmentState.SHIPPED, 2, units={1: 3, 2: 2}),
        ship(order, "london"),
    )
    order = after(order, cancel(order, reason="FRAUD"), ship(order, "london", NOW))
    assert [order_return.kind for order_return in order.returns] == [ReturnKind.RECALL]
    with pytest.raises(Refused) as refused:
        after(order, ask(order, {1: 1}))
    assert refused.value.reason == "ORDER_NOT_RETURNABLE"
    assert "recalls" in refused.value.message
