"""The table of returns, over its whole product: which move is made by which call or event, and
which is refused.
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
from order_svc.decisions import returning
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import ACTIVE_RETURN_STATUSES, RETURN_MOVES, Disposition, ReturnStatus
from order_svc.model.records import Order, Return
from order_svc.wire import events_in
from order_svc.wire.returns import DISPOSITION, KIND, STATUS
from tests.unit.order.returns import (
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
from tests.unit.order.samples import NOW, Source, changed

# The contract's table (return.proto), written out a second time on purpose.
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
    """A delivered order with one return, of a unit that has arrived, in that status."""
    order = returned(delivered(), {1: 1})
    [order_return] = order.returns
    lines = tuple(replace(line, received=1) for line in order_return.lines)
    return replace(order, returns=(replace(order_return, status=status, lines=lines),))


@pytest.mark.parametrize(("old", "new"), list(product(ReturnStatus, ReturnStatus)))
def test_a_return_moves_where_the_contract_says_and_nowhere_else(
    old: ReturnStatus, new: ReturnStatus
) -> None:
    """Every pair of statuses is allowed or forbidden as the contract's table says."""
    assert (new in RETURN_MOVES[old]) == (new.value in MAY_GO[old.value])


@pytest.mark.parametrize(("status", "to"), list(product(ReturnStatus, CALLS)))
def test_every_call_in_every_status_moves_along_the_table_or_is_refused(
    status: ReturnStatus, to: ReturnStatus
) -> None:
    """A call that the table allows makes one version with its event; any other is
    ILLEGAL_TRANSITION and names what is allowed.
    """
    order = at(status)
    [order_return] = order.returns
    command = CALLS[to](order_return)
    if to.value in MAY_GO[status.value]:
        decision = decide(order, command, NOW)
        [after] = decision.record.returns
        assert (after.status, after.version) == (to, order_return.version + 1)
        assert [(step.old, step.new) for step in walked(decision)] == [(status, to)]
        assert len(decision.facts) == 1
        return
    with pytest.raises(Refused) as refused:
        decide(order, command, NOW)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert refused.value.metadata == {
        "status": status,
        "allowed": ", ".join(sorted(MAY_GO[status.value])),
    }


@pytest.mark.parametrize("status", ReturnStatus)
def test_money_moves_an_inspected_return_and_no_other(status: ReturnStatus) -> None:
    """A refund takes it to closed, nothing to refund closes it, a failure leaves it; elsewhere
    all three change nothing.
    """
    order = at(status)
    [order_return] = order.returns
    ends = {
        "refunded": returning.refunded(order, order_return.id, 100, context(order)),
        "nothing": returning.refund_failed(
            order, order_return.id, "nothing_refundable", context(order)
        ),
        "failed": returning.refund_failed(order, order_return.id, "card_expired", context(order)),
    }
    if status is not ReturnStatus.INSPECTED:
        assert all(decision.record is order and not decision.facts for decision in ends.values())
        return
    path = {
        name: [(step.new.value, step.reason) for step in walked(decision)]
        for name, decision in ends.items()
    }
    assert path == {
        "refunded": [("refunded", "RETURN_REFUNDED"), ("closed", "RETURN_CLOSED")],
        "nothing": [("closed", "NOTHING_REFUNDABLE")],
        "failed": [("inspected", "REFUND_FAILED")],
    }
    assert [decision.record.returns[0].refunded for decision in ends.values()] == [100, 0, 0]
    failed = ends["failed"].record
    again = returning.refund_failed(failed, order_return.id, "card_expired", context(order))
    assert not again.history
    tried = returning.refunded(ends["failed"].record, order_return.id, 100, context(order))
    assert [(step.new.value, step.reason) for step in walked(tried)] == path["refunded"]


@pytest.mark.parametrize(
    ("cause_id", "return_id"),
    [
        ("01890000-0000-7000-8000-00000000000a", None),
        ("01890000-0000-7000-8000-00000000000a:2", "01890000-0000-7000-8000-00000000000a"),
    ],
    ids=["an event of yesterday", "another try"],
)
def test_a_refund_says_which_return_it_is_for(cause_id: str, return_id: str | None) -> None:
    """By its own field; an event of yesterday by its cause."""
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
def test_a_call_that_looked_at_an_older_version_is_refused(to: ReturnStatus) -> None:
    """expected_version is the return's: another one is VERSION_MISMATCH, and comes before the
    status.
    """
    order = at(ReturnStatus.CLOSED)
    [order_return] = order.returns
    with pytest.raises(Stale) as stale:
        decide(order, changed(CALLS[to](order_return), expected_version=9), NOW)
    assert stale.value.metadata == {"expected": "9", "actual": str(order_return.version)}


@pytest.mark.parametrize("free", [False, True], ids=["goods", "without_goods"])
def test_a_return_that_was_asked_for_in_view_of_another_order_is_refused(free: bool) -> None:
    """expected_version of a return that is still to be made is the order's: another one is
    VERSION_MISMATCH, the order's own makes it.

    The repeat of a request that has made its return answers with it, at any version of the order
    by then.
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


def test_what_is_under_way_is_what_has_not_ended_and_was_not_inspected() -> None:
    """Every status that can still be received or inspected holds what was announced; no other
    does.
    """
    ahead = {
        status
        for status in ReturnStatus
        if {ReturnStatus.RECEIVED, ReturnStatus.INSPECTED, ReturnStatus.APPROVED}
        & RETURN_MOVES[status]
    }
    assert ahead == ACTIVE_RETURN_STATUSES


def test_the_contract_has_every_word_that_the_service_has() -> None:
    """Statuses, kinds and dispositions are the contract's, none more, none less."""
    assert set(STATUS.values()) == set(return_pb2.ReturnStatus.values()) - {0}
    assert set(KIND.values()) == set(return_pb2.ReturnKind.values()) - {0}
    assert set(DISPOSITION.values()) == set(return_pb2.StockDisposition.values()) - {0}
