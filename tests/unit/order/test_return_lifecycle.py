"""The table of returns, for every pair of statuses: the call or event of each move, and the refused
moves.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1 import return_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import RefundCompleted
from ordermesh.payment.v1 import payment_pb2

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused, Stale
from chassis.values.money import Money, to_message
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import ACTIVE_RETURN_STATUSES, RETURN_MOVES, Disposition, ReturnStatus
from order_svc.model.records import Order
from order_svc.model.returns import Return
from order_svc.wire import events_in
from order_svc.wire.returns import DISPOSITION, KIND, STATUS
from tests.unit.order.returns import (
    ask,
    ask_money,
    delivered,
    inspect,
    move,
    receive,
    returned,
    settle,
    walked,
)
from tests.unit.order.samples import NOW, Source, changed

# The contract's table (return.proto), intentionally written a second time.
MAY_GO = {
    "requested": {"approved", "rejected", "cancelled"},
    "approved": {"in_transit", "received", "cancelled"},
    "rejected": set(),
    "in_transit": {"received", "cancelled"},
    "received": {"received", "inspected"},
    "inspected": {"refunded", "closed"},
    "refunded": {"closed"},
    "closed": set(),
    "cancelled": set(),
}
CALLS: dict[ReturnStatus, Callable[[Return], Envelope[Any]]] = {
    ReturnStatus.APPROVED: lambda order_return: move(order_return, ReturnStatus.APPROVED),
    ReturnStatus.REJECTED: lambda order_return: move(order_return, ReturnStatus.REJECTED),
    ReturnStatus.IN_TRANSIT: lambda order_return: move(order_return, ReturnStatus.IN_TRANSIT),
    ReturnStatus.CANCELLED: lambda order_return: move(order_return, ReturnStatus.CANCELLED),
    ReturnStatus.RECEIVED: lambda order_return: receive(order_return, {1: 1}),
    ReturnStatus.INSPECTED: lambda order_return: inspect(order_return, {1: (1, 0, 0)}),
}


def at(status: ReturnStatus) -> Order:
    """Returns a delivered order with one return in that status, of a unit that has arrived."""
    order = returned(delivered(), {1: 1})
    [order_return] = order.returns
    lines = tuple(replace(line, received=1) for line in order_return.lines)
    return replace(order, returns=(replace(order_return, status=status, lines=lines),))


@pytest.mark.parametrize(("old", "new"), list(product(ReturnStatus, ReturnStatus)))
def test_return_status_moves_as_the_contract_states(old: ReturnStatus, new: ReturnStatus) -> None:
    """Every pair of statuses is allowed or forbidden as in the contract's table."""
    assert (new in RETURN_MOVES[old]) == (new.value in MAY_GO[old.value])


@pytest.mark.parametrize(("status", "to"), list(product(ReturnStatus, CALLS)))
def test_every_return_call_in_every_status(status: ReturnStatus, to: ReturnStatus) -> None:
    """An allowed call makes one version with its event; any other is ILLEGAL_TRANSITION and names
    the allowed statuses.
    """
    order = at(status)
    [order_return] = order.returns
    command = CALLS[to](order_return)
    if to.value in MAY_GO[status.value]:
        decision = decide(order, command, NOW)
        [after] = decision.record.returns
        assert (after.status, after.version) == (to, order_return.version + 1)
        assert [(transition.old, transition.new) for transition in walked(decision)] == [
            (status, to)
        ]
        assert len(decision.events) == 1
        return
    with pytest.raises(Refused) as refused:
        decide(order, command, NOW)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert refused.value.metadata == {
        "status": status,
        "allowed": ", ".join(sorted(MAY_GO[status.value])),
    }


@pytest.mark.parametrize("status", ReturnStatus)
def test_refund_event_moves_only_an_inspected_return(status: ReturnStatus) -> None:
    """A refund closes it, and so does nothing to refund; a failed refund leaves it. In another
    status all three change nothing.
    """
    order = at(status)
    [order_return] = order.returns
    ends = {
        "refunded": settle(order, order_return, amount=100),
        "nothing": settle(order, order_return, failure_code="nothing_refundable"),
        "failed": settle(order, order_return, failure_code="card_expired"),
    }
    if status is not ReturnStatus.INSPECTED:
        assert all(decision.record is order and not decision.events for decision in ends.values())
        return
    path = {
        name: [(transition.new.value, transition.reason) for transition in walked(decision)]
        for name, decision in ends.items()
    }
    assert path == {
        "refunded": [("refunded", "RETURN_REFUNDED"), ("closed", "RETURN_CLOSED")],
        "nothing": [("closed", "NOTHING_REFUNDABLE")],
        "failed": [("inspected", "REFUND_FAILED")],
    }
    assert [decision.record.returns[0].refunded for decision in ends.values()] == [100, 0, 0]
    failed = ends["failed"].record
    again = settle(failed, order_return, failure_code="card_expired")
    assert not again.history
    tried = settle(ends["failed"].record, order_return, amount=100)
    assert [(transition.new.value, transition.reason) for transition in walked(tried)] == path[
        "refunded"
    ]


@pytest.mark.parametrize(
    ("cause_id", "return_id"),
    [
        ("01890000-0000-7000-8000-00000000000a", None),
        ("01890000-0000-7000-8000-00000000000a:2", "01890000-0000-7000-8000-00000000000a"),
    ],
    ids=["an event of yesterday", "another try"],
)
def test_refund_event_identifies_its_return(cause_id: str, return_id: str | None) -> None:
    """The event's own field names the return; in an event of an older release its cause does."""
    nothing = to_message(Money(0, "GBP"))
    refund = payment_pb2.Refund(
        order_id=str(uuid4()),
        cause=payment_pb2.REFUND_CAUSE_RETURN,
        cause_id=cause_id,
        return_id=return_id,
    )
    refund.amount.CopyFrom(nothing)
    envelope = events_in.apply_refund(
        RefundCompleted(refund=refund, captured_amount=nothing, refunded_amount=nothing),
        Source(),
    )
    assert envelope.command.return_id == UUID("01890000-0000-7000-8000-00000000000a")


@pytest.mark.parametrize("to", CALLS)
def test_call_of_another_return_version_is_refused(to: ReturnStatus) -> None:
    """expected_version is the return's: another one is VERSION_MISMATCH, which is checked before
    the status.
    """
    order = at(ReturnStatus.CLOSED)
    [order_return] = order.returns
    with pytest.raises(Stale) as stale:
        decide(order, changed(CALLS[to](order_return), expected_version=9), NOW)
    assert stale.value.metadata == {"expected": "9", "actual": str(order_return.version)}


@pytest.mark.parametrize("free", [False, True], ids=["goods", "without_goods"])
def test_create_return_of_another_order_version_is_refused(free: bool) -> None:
    """expected_version of a new return is the order's: another one is VERSION_MISMATCH.

    A repeat of a request that made its return is answered with it, at any version of the order.
    """
    order = delivered()
    command = ask_money(order, {1: (1, Disposition.NONE)}) if free else ask(order, {1: 1})
    with pytest.raises(Stale) as stale:
        decide(order, changed(command, expected_version=order.version + 1), NOW)
    assert stale.value.metadata == {
        "expected": str(order.version + 1),
        "actual": str(order.version),
    }
    asked = changed(command, expected_version=order.version)
    made = decide(order, asked, NOW).record
    assert [order_return.id for order_return in made.returns] == [command.command.return_id]
    later = replace(made, version=made.version + 1)
    assert decide(later, asked, NOW).record == later


def test_return_before_its_inspection_holds_announced_units() -> None:
    """Every status that can still be received or inspected holds the announced units; no other
    does.
    """
    ahead = {
        status
        for status in ReturnStatus
        if {ReturnStatus.RECEIVED, ReturnStatus.INSPECTED, ReturnStatus.APPROVED}
        & RETURN_MOVES[status]
    }
    assert ahead == ACTIVE_RETURN_STATUSES


def test_return_enums_of_contract_and_service_are_the_same() -> None:
    """Statuses, kinds and dispositions of service and contract are the same."""
    assert set(STATUS.values()) == set(return_pb2.ReturnStatus.values()) - {0}
    assert set(KIND.values()) == set(return_pb2.ReturnKind.values()) - {0}
    assert set(DISPOSITION.values()) == set(return_pb2.StockDisposition.values()) - {0}
