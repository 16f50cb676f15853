"""The end of an order's fulfilments: cancelled with the attempt, in every order of events."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import Status, WithdrawReason
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    OrderCommand,
)
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import (
    Fulfillment,
    RemainingUnits,
    VoidLabel,
)
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    SHIPMENT,
    changed,
    close_attempt,
    cut,
    done,
    envelope,
    fulfillment_in,
    is_withdrawn,
    order_fulfillments,
    picking_line,
    plan,
    published,
    record_commit,
    units,
    withdrawal_confirmed,
)

COMMIT_PENDING = replace(fulfillment_in(Status.PLANNING), stock_committed=False)
CARRIED = (Status.SHIPPED, Status.COMPLETED)
D3, L2 = (picking_line(1, "mug", 3),), (picking_line(1, "mug", 2),)


def test_cancellation_before_confirmation_cancels_plan() -> None:
    """Without a fulfilment, a cancelled one is made and published with its units as cut. The
    confirmation that follows changes nothing.
    """
    record, (cancelled, planned) = done(None, [close_attempt(), plan()])
    assert (
        record.status,
        record.version,
        [(line.quantity, line.cut) for line in record.lines],
    ) == (
        Status.CANCELLED,
        1,
        [(0, 2), (0, 1), (0, 3)],
    )
    assert [(t.old, t.new) for t in cancelled.history] == [(None, Status.CANCELLED)]
    assert published(cancelled, planned) == [("status", 1, "ORDER_CANCELLED")]


@pytest.mark.parametrize("status", Status)
def test_close_attempt_cancels_unshipped_fulfilment(status: Status) -> None:
    """Before the shipment the fulfilment is cancelled, its units cut and its packages undone. A
    ready one is withdrawn first. Shipped, completed and cancelled ones stay unchanged.
    """
    here = fulfillment_in(status)
    record, [decision] = done(here, [close_attempt()])
    if status is Status.READY:
        assert is_withdrawn(here, record, decision, WithdrawReason.ORDER_CANCELLED)
        record, [decision] = done(decision.record, [withdrawal_confirmed(label_void=True)])
        here = replace(here, version=here.version + 1)
        assert record.void_labels == (VoidLabel(SHIPMENT, {1: 2, 2: 1, 4: 3}),)
    if status in (*CARRIED, Status.CANCELLED):
        assert (record, published(decision)) == (here, [])
    else:
        assert (record.status, record.packages) == (Status.CANCELLED, ())
        assert [(line.quantity, line.picked, line.cut) for line in record.lines] == [
            (0, 0, 2),
            (0, 0, 1),
            (0, 0, 3),
        ]
        assert published(decision) == [("status", here.version + 1, "ORDER_CANCELLED")]
    assert decision.record.closed_attempt == 1


@pytest.mark.parametrize(
    "late",
    [plan({"YORK": LINES}), record_commit({"YORK": LINES}), plan({"YORK": LINES}, committed=False)],
)
def test_commit_after_close_attempt_is_cancelled(late: Envelope[Any]) -> None:
    """Another warehouse committed the stock while the order was cancelled: no work begins there,
    and a cancelled fulfilment publishes its units.
    """
    _, decisions = done(COMMIT_PENDING, [close_attempt(), late])
    assert units(decisions[-1].record)["YORK"] == [(0, 2), (0, 1), (0, 3)]
    assert {each.status for each in decisions[-1].record.fulfillments} == {Status.CANCELLED}
    assert published(decisions[-1]) == [("status", 1, "ORDER_CANCELLED")]


CANCELLATION = envelope(CancelFulfillment, note="")


@pytest.mark.parametrize(
    ("here", "commands", "never_started"),
    [
        (None, [close_attempt()], [True]),
        (None, [close_attempt(), plan({"YORK": LINES})], [True, True]),
        (COMMIT_PENDING, [close_attempt()], [True]),
        (COMMIT_PENDING, [close_attempt(), record_commit({"YORK": LINES})], [True, True]),
        (
            COMMIT_PENDING,
            [record_commit({"YORK": LINES}), close_attempt()],
            [False, False, False, False],
        ),
        (COMMIT_PENDING, [record_commit(), close_attempt()], [False]),
        (fulfillment_in(Status.PICKING), [close_attempt()], [False]),
        (fulfillment_in(Status.PICKING), [CANCELLATION, close_attempt()], [False]),
        (
            fulfillment_in(Status.SHIPPED),
            [close_attempt(), close_attempt({"YORK": LINES})],
            [False],
        ),
    ],
)
def test_closed_attempt_without_commit_is_never_started(
    here: Fulfillment | None, commands: list[Envelope[Any]], never_started: list[bool]
) -> None:
    """An attempt is never started only without a recorded commit of its stock: after a commit, work
    may have started. It is published at least once.
    """
    _, decisions = done(here, commands)
    assert [
        event.never_started
        for d in decisions
        for event in d.events
        if isinstance(event, StatusChanged | LinesChanged)
    ] == never_started


def test_later_attempt_after_close_is_planned() -> None:
    """Only one attempt is closed."""
    decision = decide(None, close_attempt(), NOW)
    second = decide(
        decision.record,
        changed(plan(), attempt=2, picklists=plan({"YORK": LINES}).command.picklists),
        NOW,
    ).record
    assert [
        (each.key.attempt, each.status)
        for each in second.fulfillments
        if each.key.warehouse_id == "YORK"
    ] == [(2, Status.PLANNING)]


CONFIRMED, LESS, CANCELLED = (
    plan({"DOVER": D3, "LEEDS": L2}),
    cut(2, lines=D3),
    close_attempt({"DOVER": L2}),
)


def named(order: tuple[Envelope[Any], ...]) -> str:
    """Returns the order of events as a test's name."""
    return "-".join(type(each.command).__name__ for each in order)


@pytest.mark.parametrize("order", list(permutations([CONFIRMED, LESS])), ids=named)
def test_cut_and_confirmation_in_any_order_agree(order: tuple[Envelope[Any], ...]) -> None:
    """A cut of a unit of DOVER and of all of LEEDS leaves the same units in any order."""
    _, decisions = done(None, order)
    record = decisions[-1].record
    assert units(record) == {"DOVER": [(2, 1)], "LEEDS": [(0, 2)]}
    assert {each.key.warehouse_id: each.status for each in record.fulfillments} == {
        "DOVER": Status.PLANNING,
        "LEEDS": Status.CANCELLED,
    }


@pytest.mark.parametrize("order", list(permutations([CONFIRMED, LESS, CANCELLED])), ids=named)
def test_close_attempt_in_any_order_cancels_all(order: tuple[Envelope[Any], ...]) -> None:
    """Every fulfilment is cancelled, and every committed unit is published as cut. The last event
    of each fulfilment has all of them.
    """
    here, last = None, dict[str, Fulfillment]()
    for each in (*order, *order):
        decision = decide(here, each, NOW)
        here = decision.record
        for event in decision.events:
            assert isinstance(event, StatusChanged | LinesChanged)
            last[event.fulfillment.key.warehouse_id] = event.fulfillment
    assert here
    assert units(here) == {"DOVER": [(0, 3)], "LEEDS": [(0, 2)]}
    assert {each.status for each in here.fulfillments} == {Status.CANCELLED}
    assert last == {each.key.warehouse_id: each for each in here.fulfillments}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "event",
    [plan(), cut(2, 1, 3, version=2**60), close_attempt()],
    ids=["confirmed", "cut", "cancelled"],
)
def test_forged_order_version_is_refused(event: Envelope[OrderCommand], known: bool) -> None:
    """No part of an order's event of version 2^60 is stored."""
    before = order_fulfillments(remaining=RemainingUnits(1, 4, ())) if known else None
    with pytest.raises(Refused) as caught:
        decide(before, changed(event, version=2**60), NOW)
    assert caught.value.reason == "VERSION_JUMP"
