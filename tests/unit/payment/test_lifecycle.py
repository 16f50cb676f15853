"""The tables of payments, for every status."""

import pytest
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2

from payment_svc.lifecycle import (
    CHARGED,
    CLOSED,
    LIVE,
    MOVES,
    OPEN,
    ORDER_PENDING,
    OUTCOME_MOVES,
    REFUND_STATUS,
    STATUS_AFTER_SUCCESS,
    Kind,
    Outcome,
    RefundStatus,
    Status,
    can_become,
    status_after_refund,
)
from payment_svc.wire import enums
from tests.unit.payment.samples import OrderStatus

# The same as MOVES, drawn by hand from the contract's comments, in the order of the statuses'
# declaration: from down, to across.
PICTURE = """
pending              . A C D F . . . .
authorized           . . C . . V . . .
captured             . . . . . . P R .
declined             . . . . . . . . .
failed               . . . . . . . . .
voided               . . . . . . . . .
partially_refunded   . . . . . . . R .
refunded             . . . . . . . . .
not_required         . . . . . . . . .
"""
ROWS = {Status(name): letters for name, *letters in map(str.split, PICTURE.strip().splitlines())}


@pytest.mark.parametrize("here", Status)
@pytest.mark.parametrize(("column", "there"), list(enumerate(Status)))
def test_every_payment_move_is_as_drawn(here: Status, column: int, there: Status) -> None:
    """A payment moves from one status to another exactly where the picture has a letter."""
    assert can_become(here, there) == (ROWS[here][column] != ".")


def test_payment_tables_are_complete_and_agree() -> None:
    """Each status and outcome has its row. Terminal statuses have no next one, and every charged
    status counts for its attempt.
    """
    assert set(MOVES) == set(Status)
    assert set(OUTCOME_MOVES) == set(Outcome)
    assert {s for s in Status if not MOVES[s]} == {
        Status.DECLINED,
        Status.FAILED,
        Status.VOIDED,
        Status.REFUNDED,
        Status.NOT_REQUIRED,
    }
    assert CHARGED <= LIVE
    assert {Outcome.REQUESTED, Outcome.UNKNOWN} == OPEN
    assert all(
        moves <= OPEN | {Outcome.SUCCEEDED, Outcome.FAILED} for moves in OUTCOME_MOVES.values()
    )


def test_success_moves_a_pending_or_authorized_payment() -> None:
    """The move that a success makes is in the table, from the status that requests such an
    operation.
    """
    assert all(
        any(can_become(here, there) for here in (Status.PENDING, Status.AUTHORIZED))
        for there in STATUS_AFTER_SUCCESS.values()
    )


@pytest.mark.parametrize(
    ("refunded", "status"),
    [(1, Status.PARTIALLY_REFUNDED), (99, Status.PARTIALLY_REFUNDED), (100, Status.REFUNDED)],
)
def test_refund_of_the_last_amount_makes_it_refunded(refunded: int, status: Status) -> None:
    """A part makes it partially refunded, the last part refunded; both are moves from statuses with
    captured money.
    """
    assert status_after_refund(100, refunded) is status
    assert can_become(Status.CAPTURED, status)


def test_refund_status_is_final_when_its_outcome_is() -> None:
    """Each outcome has its refund status, and pending is the open one."""
    assert {
        outcome for outcome, status in REFUND_STATUS.items() if status is RefundStatus.PENDING
    } == OPEN
    assert set(REFUND_STATUS) == set(Outcome)
    assert set(STATUS_AFTER_SUCCESS) | {Kind.REFUND} == set(Kind)


def test_payment_that_is_not_live_is_terminal() -> None:
    """From declined and voided there is no move to a status of which an attempt has only one: a
    second payment is safe.
    """
    assert all(not MOVES[status] for status in set(Status) - LIVE)


def test_statuses_are_those_of_the_contracts() -> None:
    """Payment statuses are the contract's. Every order status of the contract is known here."""
    assert len(enums.STATUS) == len(payment_pb2.PaymentStatus.keys()) - 1
    assert len(enums.KIND) == len(payment_pb2.PaymentOperationKind.keys()) - 1
    assert len(enums.OUTCOME) == len(payment_pb2.PaymentOperationOutcome.keys()) - 1
    assert len(enums.CAUSE) == len(payment_pb2.RefundCause.keys()) - 1
    assert len(enums.REFUND) == len(payment_pb2.RefundStatus.keys()) - 1
    assert len(enums.ORDER_STATUS_OF) == len(order_pb2.OrderStatus.keys()) - 1
    assert set(enums.ORDER_STATUS_OF.values()) > CLOSED | {ORDER_PENDING}
    assert set(enums.ORDER_STATUS_OF.values()) == set(OrderStatus) - {OrderStatus.UNKNOWN}
