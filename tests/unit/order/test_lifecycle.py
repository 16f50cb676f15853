"""The order's tables of statuses, for every pair."""

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
from order_svc.wire.enums import STATE_OF_FULFILLMENT_STATUS, STATUS
from tests.unit.order.samples import Source, after, pay, placed

# The specification's table (lifecycle, section 2), intentionally written a second time.
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
def test_order_status_moves_as_the_specification_states(old: Status, new: Status) -> None:
    """Every pair of statuses is allowed or forbidden as in the specification's table."""
    assert (new in MOVES[old]) == (new.value in MAY_GO[old.value])


@pytest.mark.parametrize(("here", "there"), list(product(Status, Status)))
def test_path_takes_every_step_along_the_table(here: Status, there: Status) -> None:
    """A path leads to its target by allowed moves, one rank at a time. There is none backwards,
    sideways, or to the present status.
    """
    statuses = path(here, there)
    for old, new in zip((here, *statuses), statuses, strict=False):
        assert new in MOVES[old]
        assert RANK[new] == RANK[old] + 1
    forward = here in RANK and there in RANK and RANK[here] < RANK[there]
    assert (statuses[-1] if statuses else None) == (there if forward else None)


def test_cancelled_and_refunded_are_the_terminal_statuses() -> None:
    """Cancelled and refunded are terminal, and no other status is."""
    assert {Status.CANCELLED, Status.REFUNDED} == TERMINAL


# The specification's table (lifecycle, section 3), over the contract's statuses: the effect of the
# event on a confirmed order.
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
    """Each status of the contract, and an unknown one, moves an order as the specification states.
    An order with units in another warehouse moves on only with that one's. It loses the units of a
    cancelled fulfilment.
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
        moved = after(confirmed, events_in.apply_fulfillment(event, Source()))
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
    """The effect of each fulfilment status on its order is the one in section 3 of the
    specification.
    """
    specified = {
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
    } == specified


@pytest.mark.parametrize(("one", "other"), list(product(FulfillmentState, FulfillmentState)))
def test_order_status_follows_its_two_fulfilments(
    one: FulfillmentState, other: FulfillmentState
) -> None:
    """The order is processing once the first one starts, and shipped when every open one has
    shipped. Cancelled ones do not count.
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
    """One delivered parcel of two leaves the order processing or shipped; both make it
    delivered.
    """
    shipped, delivered = Status.SHIPPED, Status.DELIVERED
    assert status_of([delivered, shipped]) is Status.SHIPPED
    assert status_of([delivered, Status.PROCESSING]) is Status.PROCESSING
    assert status_of([delivered, delivered, None]) is Status.DELIVERED
    assert progress_of([delivered, shipped]) is Progress.PARTIALLY_DELIVERED
    assert progress_of([shipped, Status.PROCESSING]) is Progress.PARTIALLY_SHIPPED
    assert progress_of([None]) is Progress.CANCELLED


def test_delivery_report_delivers_in_any_fulfilment_state() -> None:
    """A fulfilment that shipping reports as delivered is delivered, also by a late report. A
    cancelled one stays cancelled.
    """
    for work in FulfillmentState:
        report = order_status_from(work, shipped=True, delivered=True)
        assert report is (None if work is FulfillmentState.CANCELLED else Status.DELIVERED)


def test_statuses_of_contract_and_service_are_the_same() -> None:
    """Service and contract have the same statuses, of orders and of fulfilments."""
    assert set(STATUS.values()) == set(order_pb2.OrderStatus.values()) - {0}
    assert set(STATE_OF_FULFILLMENT_STATUS) == set(fulfillment_pb2.FulfillmentStatus.values()) - {0}


# Closed statuses of a return, and of a fulfilment without units to wait for.
CLOSED_RETURNS = {"rejected", "closed", "cancelled"}
CLOSED_WORK = {"shipped", "completed", "cancelled"}


@pytest.mark.parametrize("status", Status)
def test_only_cancelled_and_refunded_orders_are_closed(status: Status) -> None:
    """Nothing is open, but a failed order can be retried, and a delivered one can be returned."""
    assert closed(status, StockStatus.RETURNED, [], [], refund_due=False) == (
        status in ("cancelled", "refunded")
    )


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_ended_order_with_anything_open_is_not_closed(status: Status) -> None:
    """One open part keeps an order open: money, stock to come back, a fulfilment, or a return."""

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
    """Stock can be committed before the payment. If the order is then cancelled, it expects a
    fulfilment that never begins. A fulfilment that began counts.
    """

    def is_closed(state: FulfillmentState) -> bool:
        return closed(Status.CANCELLED, StockStatus.RELEASED, [state], [], refund_due=False)

    assert {state.value for state in FulfillmentState if is_closed(state)} == {
        "expected",
        *CLOSED_WORK,
    }
