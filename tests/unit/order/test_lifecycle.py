"""The order's tables, over their whole product."""

from itertools import product
from uuid import uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2

from order_svc.lifecycle import (
    MOVES,
    RANK,
    STATUS_BY_FULFILLMENT_STATE,
    TERMINAL,
    FulfillmentState,
    Progress,
    ReturnStatus,
    Status,
    StockStatus,
    closed,
    order_status_from,
    path,
    progress_of,
    status_of,
)
from order_svc.wire import events_in
from order_svc.wire.enums import FULFILLMENT_STATE_OF, STATUS
from tests.unit.order.samples import Source, after, pay, placed

# The specification's table (lifecycle, section 2), written out a second time on purpose.
MAY_GO = {
    "pending": {"confirmed", "cancelled", "failed"},
    "confirmed": {"processing", "cancelled"},
    "processing": {"shipped", "cancelled"},
    "shipped": {"delivered", "cancelled"},
    "delivered": {"refunded"},
    "failed": {"pending"},
    "cancelled": set(),
    "refunded": set(),
}


@pytest.mark.parametrize(("old", "new"), list(product(Status, Status)))
def test_a_status_moves_where_the_specification_says_and_nowhere_else(
    old: Status, new: Status
) -> None:
    """Every pair of statuses is allowed or forbidden as the specification's table says."""
    assert (new in MOVES[old]) == (new.value in MAY_GO[old.value])


@pytest.mark.parametrize(("here", "there"), list(product(Status, Status)))
def test_path_takes_every_step_along_the_table(here: Status, there: Status) -> None:
    """A way leads from here to there by allowed moves, one rank at a time; backwards, sideways
    and to where one is there is none.
    """
    statuses = path(here, there)
    for old, new in zip((here, *statuses), statuses, strict=False):
        assert new in MOVES[old]
        assert RANK[new] == RANK[old] + 1
    forward = here in RANK and there in RANK and RANK[here] < RANK[there]
    assert (statuses[-1] if statuses else None) == (there if forward else None)


def test_terminal_statuses_are_those_that_the_specification_names() -> None:
    """Cancelled and refunded are terminal, and nothing else is."""
    assert {Status.CANCELLED, Status.REFUNDED} == TERMINAL


# The specification's table (lifecycle, section 3), over the contract's statuses: what the event
# makes of a confirmed order.
BECOMES = {
    fulfillment_pb2.FULFILLMENT_STATUS_PENDING: Status.CONFIRMED,
    fulfillment_pb2.FULFILLMENT_STATUS_PLANNING: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKING: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKED: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKING: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKED: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_READY: Status.PROCESSING,
    fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED: Status.SHIPPED,
    fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED: Status.SHIPPED,
    fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED: Status.CANCELLED,
    fulfillment_pb2.FULFILLMENT_STATUS_UNSPECIFIED: Status.CONFIRMED,
    99: Status.CONFIRMED,  # of a newer fulfilment service
}


@pytest.mark.parametrize("number", [*fulfillment_pb2.FulfillmentStatus.values(), 99])
def test_fulfillment_status_mapping(number: int) -> None:
    """Each status of the contract, and an unknown one, moves an order as the
    specification says; the order of which another warehouse has units moves on only with that
    one's, and loses the units of one that is cancelled.
    """
    report = fulfillment_pb2.Fulfillment(
        attempt=1,
        warehouse_id="london",
        version=7,
        status=number,  # type: ignore[arg-type]
        fulfillment_id=str(uuid4()),
    )
    becomes = BECOMES[number]
    for warehouses in (["london"], ["london", "paris"]):
        order = placed(None, *warehouses)
        confirmed = after(order, pay(order))
        report.order_id = str(order.id)
        event = FulfillmentStatusChanged(fulfillment=report, new_status=report.status)
        moved = after(confirmed, events_in.apply_fulfillment_status(event, Source()))
        known = len(warehouses) == 1
        if becomes is Status.CONFIRMED:
            assert moved.status is becomes
            assert moved.version == confirmed.version
        elif becomes is Status.CANCELLED:
            assert moved.status is (becomes if known else Status.CONFIRMED)
            assert [line.cancelled for line in moved.lines] == [
                line.quantity if known or n == 1 else 0 for n, line in enumerate(order.lines, 1)
            ]
        else:
            assert moved.status is (becomes if known else Status.PROCESSING)


def test_fulfillment_status_mapping_over_the_whole_table() -> None:
    """What each fulfilment status makes of its order is what section 3 of the
    specification says.
    """
    said = {
        "expected": "confirmed",
        "pending": "confirmed",
        **dict.fromkeys(
            ["planning", "picking", "picked", "packing", "packed", "ready"], "processing"
        ),
        "shipped": "shipped",
        "completed": "shipped",
        "cancelled": None,
    }
    assert {
        work.value: means and means.value for work, means in STATUS_BY_FULFILLMENT_STATE.items()
    } == said


@pytest.mark.parametrize(("one", "other"), list(product(FulfillmentState, FulfillmentState)))
def test_an_order_of_two_fulfilments_is_as_far_as_all_of_them_and_in_work_once_one_is(
    one: FulfillmentState, other: FulfillmentState
) -> None:
    """Processing once the first starts, shipped when every live one has shipped; cancelled ones
    do not count.
    """
    statuses = [order_status_from(work, shipped=False, delivered=False) for work in (one, other)]
    live = [status for status in statuses if status]
    expected = None
    if live:
        expected = Status.SHIPPED if all(s is Status.SHIPPED for s in live) else Status.CONFIRMED
        if expected is Status.CONFIRMED and any(s is not Status.CONFIRMED for s in live):
            expected = Status.PROCESSING
    assert status_of(statuses) is expected


def test_delivery_of_every_fulfilment_delivers_the_order() -> None:
    """One parcel of two delivered leaves the order in work or shipped; both make it delivered."""
    shipped, delivered = Status.SHIPPED, Status.DELIVERED
    assert status_of([delivered, shipped]) is Status.SHIPPED
    assert status_of([delivered, Status.PROCESSING]) is Status.PROCESSING
    assert status_of([delivered, delivered, None]) is Status.DELIVERED
    assert progress_of([delivered, shipped]) is Progress.PARTIALLY_DELIVERED
    assert progress_of([shipped, Status.PROCESSING]) is Progress.PARTIALLY_SHIPPED
    assert progress_of([None]) is Progress.CANCELLED


def test_delivery_report_delivers_in_any_fulfilment_state() -> None:
    """A fulfilment that shipping calls delivered is delivered, even where the report is
    late; a cancelled one stays cancelled.
    """
    for work in FulfillmentState:
        report = order_status_from(work, shipped=True, delivered=True)
        assert report is (None if work is FulfillmentState.CANCELLED else Status.DELIVERED)


def test_the_contract_has_every_status_that_the_service_has() -> None:
    """No status of the service is missing in the contract, nor one of the contract in the
    service; the same for fulfilment's statuses.
    """
    assert set(STATUS.values()) == set(order_pb2.OrderStatus.values()) - {0}
    assert set(FULFILLMENT_STATE_OF) == set(fulfillment_pb2.FulfillmentStatus.values()) - {0}


# Statuses of a return that nothing follows, and of work that no unit waits for.
CLOSED_RETURNS = {"rejected", "closed", "cancelled"}
CLOSED_WORK = {"shipped", "completed", "cancelled"}


@pytest.mark.parametrize("status", Status)
def test_only_cancelled_and_refunded_orders_are_closed(status: Status) -> None:
    """With nothing open: a failed order can be retried, and a delivered one can be returned."""
    assert closed(status, StockStatus.RETURNED, [], [], refund_due=False) == (
        status in ("cancelled", "refunded")
    )


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_ended_order_with_anything_open_is_not_closed(status: Status) -> None:
    """One thing open keeps an order open: money, stock that is to come back, work, or a return."""

    def is_closed(
        stock: str = "deducted",
        state: str = "completed",
        order_return: str = "closed",
        *,
        refund_due: bool = False,
    ) -> bool:
        states, returns = (
            [FulfillmentState.SHIPPED, FulfillmentState(state)],
            [ReturnStatus.CLOSED, ReturnStatus(order_return)],
        )
        return closed(status, StockStatus(stock), states, returns, refund_due=refund_due)

    assert is_closed()
    assert not is_closed(refund_due=True)
    assert {stock.value for stock in StockStatus if is_closed(stock)} == {
        "deducted",
        "released",
        "returned",
    }
    assert {state.value for state in FulfillmentState if is_closed(state=state)} == CLOSED_WORK
    assert {
        order_return.value for order_return in ReturnStatus if is_closed(order_return=order_return)
    } == CLOSED_RETURNS


def test_fulfilment_never_created_keeps_no_order_open() -> None:
    """Stock can be committed before the payment: cancelled then, the order expects work that never
    begins. Work that began counts.
    """

    def is_closed(state: FulfillmentState) -> bool:
        return closed(Status.CANCELLED, StockStatus.RELEASED, [state], [], refund_due=False)

    assert {state.value for state in FulfillmentState if is_closed(state)} == {
        "expected",
        *CLOSED_WORK,
    }
