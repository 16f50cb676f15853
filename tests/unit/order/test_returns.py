"""The decisions about an order's returns: the returnable units, the accepted units, and the
refunds.
"""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from chassis.values.errors import Invalid, NotFound, Refused
from order_svc.decisions import recalls
from order_svc.decisions.deciders import decide
from order_svc.decisions.returns import returnable_units
from order_svc.lifecycle import (
    Disposition,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    Status,
    StockStatus,
)
from order_svc.model.returns import Return
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
    settle,
    walked,
)
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    report,
)

RESTOCK, DAMAGED, NONE = Disposition.RESTOCK, Disposition.DAMAGED, Disposition.NONE


def shown(order_return: Return) -> tuple[str, int, int]:
    return order_return.status.value, order_return.refund, order_return.version


def test_full_return_is_refunded_at_the_frozen_price() -> None:
    """All units of both lines passed: the refund is the lines' cost without shipping, and the order
    shows the units as returned.
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
    order = settle(order, order_return, amount=order_return.refund).record
    assert (order.returns[0].status, order.returns[0].refunded) == (
        ReturnStatus.CLOSED,
        order_return.refund,
    )
    assert order.return_progress is ReturnProgress.FULL


def test_returns_of_single_units_add_up_to_the_line() -> None:
    """Three lamps for 31.00 have shares that differ by a penny. Returned one by one, they are
    refunded with 31.00.
    """
    order, refunds = delivered(), []
    for _ in range(3):
        order, order_return = arrived(order, {1: 1})
        order = after(order, inspect(order_return, {1: (1, 0, 0)}))
        refunds.append(order.returns[-1].refund)
    [lamps] = [line for line in order.lines if line.number == 1]
    assert sum(refunds) == lamps.total == 3100
    assert refunds == [lamps.cost_of(n + 1) - lamps.cost_of(n) for n in range(3)]


def test_last_inspected_unit_makes_the_return_inspected() -> None:
    """While an arrived unit is uninspected the return stays received, with the results so far; then
    it is inspected.
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
def test_failed_units_are_refunded_unless_refused(found: tuple[int, int, int], units: int) -> None:
    """A passed or failed unit is refunded with its share; a unit that the inspector refuses is
    not.
    """
    order, order_return = arrived(delivered(), {1: 2})
    order = after(order, inspect(order_return, {1: found}))
    assert order.returns[0].refund == order.lines[0].cost_of(units)


def test_inspection_in_parts_gives_the_same_refund() -> None:
    """Three lamps for 31.01, inspected one by one, of one return: units accepted before are not
    counted again.
    """
    order = delivered()
    order = replace(order, lines=(replace(order.lines[0], tax=201), order.lines[1]))
    order, order_return = arrived(order, {1: 3})
    for units in (1, 2, 3):
        order = after(order, inspect(order_return, {1: (1, 0, 0)}))
        assert order.returns[0].refund == order.lines[0].cost_of(units)


def test_return_without_a_refund_is_closed_at_once() -> None:
    """The inspector refused all units. No event of a refund will come, so inspected and closed are
    two transitions of one decision.
    """
    order, order_return = arrived(delivered(), {1: 2})
    decision = decide(order, inspect(order_return, {1: (0, 2, 2)}), NOW)
    assert [(transition.new.value, transition.reason) for transition in walked(decision)] == [
        ("inspected", "RETURN_INSPECTED"),
        ("closed", "NOTHING_REFUNDABLE"),
    ]
    events: list[Any] = [*decision.events]
    assert [event.order_return.version for event in events] == [4, 5]
    assert decision.record.returns[0].refund == 0


def test_units_that_did_not_arrive_can_be_returned_again() -> None:
    """Of three announced units one arrived: once inspected, the return holds one, and the other two
    can be in another return.
    """
    order = returned(delivered(), {1: 3})
    [order_return] = order.returns
    order = after(order, move(order_return, ReturnStatus.APPROVED), receive(order_return, {1: 1}))
    assert returnable_units(order, 1) == 0
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    assert order.returns[0].status is ReturnStatus.INSPECTED
    assert returnable_units(order, 1) == 2
    assert after(order, ask(order, {1: 2})).return_progress is ReturnProgress.OPEN


def test_receipt_beyond_the_announcement_is_bounded() -> None:
    """Of three lamps one is announced: three may arrive, and bulbs too. A fourth lamp, or one of
    another return, may not.
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


def test_return_arrives_at_one_warehouse() -> None:
    """All units arrive at the warehouse of the first ones."""
    order = returned(delivered(), {1: 2})
    order_return = order.returns[0]
    order = after(
        order, move(order_return, ReturnStatus.APPROVED), receive(order_return, {1: 1}, "paris")
    )
    assert order.returns[0].warehouse_id == "paris"
    with pytest.raises(Invalid) as refused:
        after(order, receive(order_return, {1: 1}, "london"))
    assert [violation.subject for violation in refused.value.violations] == ["warehouse_id"]


def test_inspection_beyond_the_receipt_is_refused() -> None:
    """INSPECTION_EXCEEDS_RECEIPT names each line, also those that never arrived; no unit is
    accepted.
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
def test_return_beyond_the_delivered_units_is_refused(
    lines: dict[int, int], subjects: list[str]
) -> None:
    """More units than ordered, and an unknown line, are each named."""
    for command in (
        ask(order := delivered(), lines),
        ask_money(order, {number: (n, NONE) for number, n in lines.items()}),
    ):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
        assert [violation.subject for violation in refused.value.violations] == subjects


def test_units_beside_a_cancelled_one_keep_their_share() -> None:
    """Of three lamps one was cancelled: two can be returned, refunded with the shares of the second
    and the third unit.
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
def test_return_of_an_undelivered_order_is_refused(status: Status) -> None:
    """Delivered and refunded orders have returnable units; any other is refused with its status."""
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
def test_rejected_or_cancelled_return_holds_no_units(status: ReturnStatus) -> None:
    """The units of a rejected or cancelled return can be in another one, and the order shows
    none.
    """
    order = returned(delivered(), {1: 3})
    assert (returnable_units(order, 1), order.return_progress) == (0, ReturnProgress.OPEN)
    order = after(order, move(order.returns[0], status))
    assert (returnable_units(order, 1), order.return_progress) == (3, ReturnProgress.NONE)


@pytest.mark.parametrize(
    ("disposition", "counts", "progress"),
    [
        (RESTOCK, (2, 0, 0), ReturnProgress.PARTIAL),
        (DAMAGED, (0, 2, 0), ReturnProgress.PARTIAL),
        (NONE, (0, 0, 2), ReturnProgress.NONE),
    ],
)
def test_refund_without_goods_is_inspected_from_the_start(
    disposition: Disposition, counts: tuple[int, int, int], progress: ReturnProgress
) -> None:
    """In one step the units are accepted as the caller states, refunded by their shares, and no
    longer returnable.
    """
    order = delivered()
    decision = decide(order, ask_money(order, {1: (2, disposition)}), NOW)
    [order_return], [transition] = decision.record.returns, walked(decision)
    line = order_return.line(1)
    assert (transition.old, transition.new, order_return.version, order_return.kind) == (
        None,
        ReturnStatus.INSPECTED,
        1,
        ReturnKind.WITHOUT_GOODS,
    )
    assert (line.passed, line.failed, line.written_off) == counts
    assert order_return.refund == order.lines[0].cost_of(2)
    assert returnable_units(decision.record, 1) == 1
    assert decision.record.return_progress is progress


def test_repeated_return_with_a_deleted_key_changes_nothing() -> None:
    """The id identifies the return: a repeat whose key was deleted changes nothing, even if all its
    units are in returns.
    """
    order = delivered()
    for command in (ask(order, {1: 3}), ask_money(order, {2: (2, NONE)})):
        order = after(order, command)
        again = decide(order, command, NOW)
        assert again.record is order
        assert not again.events


def test_unknown_return_is_not_found() -> None:
    """Every call about it is refused; for an unknown order with ORDER_NOT_FOUND."""
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


def test_recall_is_approved_once_without_a_refund() -> None:
    """A repeat makes none; more units make a recall of the additional ones. Once inspected it is
    closed without a refund.
    """
    order = replace(at(Status.DELIVERED), status=Status.CANCELLED)
    order = recalls.recall(order, "london", {1: 2}, context(order)).record
    [order_return] = order.returns
    assert (order_return.kind, order_return.status, order_return.line(1).announced) == (
        ReturnKind.RECALL,
        ReturnStatus.APPROVED,
        2,
    )
    assert recalls.recall(order, "london", {1: 2}, context(order)).record is order
    order = recalls.recall(order, "london", {1: 3, 2: 1}, context(order)).record
    assert [(line.number, line.announced) for line in order.returns[1].lines] == [(1, 1), (2, 1)]
    with pytest.raises(Refused):
        after(order, receive(order_return, {1: 3}))  # more units than remain
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
