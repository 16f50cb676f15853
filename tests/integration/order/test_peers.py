"""The warehouse over a real channel, when it is unreachable or fails by its own defect."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import (
    ReservationServiceServicer,
    add_ReservationServiceServicer_to_server,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.circuit_breaker import Breaker
from chassis.values.decision import Done
from chassis.values.paging import too_large
from chassis.write.database import Database
from order_svc.app import Operations
from order_svc.lifecycle import Status, StockStatus
from order_svc.peers import Warehouse
from tests.integration.order.events import delivery, paid
from tests.integration.order.requests import Orders, overdue
from tests.integration.order.test_events import deliver, place
from tests.support import caller_deadline, channel_of, measured
from tests.unit.order.samples import cancel


class FailingReservations(ReservationServiceServicer):
    """A stand-in for the warehouse that fails as a test sets.

    Releases: UNAVAILABLE for the first `failing` calls, or a retryable failure for chosen orders.
    Confirmations: INTERNAL, for the whole call or for each order of it.
    """

    def __init__(self) -> None:
        self.failing, self.whole, self.most = 0, True, 500
        self.retryable: set[str] = set()
        self.asked: list[api.BatchReleaseReservationsRequest] = []
        self.times: list[float] = []

    async def BatchReleaseReservations(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        self.times.append(asyncio.get_running_loop().time())
        if len(self.asked) <= self.failing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        results = [
            api.ReservationResult(order_id=entry.order_id) for entry in request.order_attempts
        ]
        for result in results:
            if result.order_id in self.retryable:
                result.failure.reason, result.failure.retryable = "CONTENTION", True
        return api.BatchReleaseReservationsResponse(results=results)

    async def BatchConfirmReservations(self, request: Any, context: Any) -> Any:
        if len(request.order_attempts) > self.most:
            raise too_large(self.most, len(request.order_attempts), "fewer")
        if self.whole:
            await context.abort(grpc.StatusCode.INTERNAL, "a bug")
        results = [
            api.ReservationResult(order_id=entry.order_id) for entry in request.order_attempts
        ]
        for result in results:
            result.failure.reason = "INTERNAL"
        return api.BatchConfirmReservationsResponse(results=results)


@pytest.fixture
def reservations() -> FailingReservations:
    return FailingReservations()  # type: ignore[abstract]  # the tests call no other method


@pytest.fixture
async def connected(
    database: Database, reservations: FailingReservations
) -> AsyncIterator[Operations]:
    """The order service's operations over a real channel to that warehouse, with breaker and
    retries.
    """
    register = partial(add_ReservationServiceServicer_to_server, reservations)
    async with channel_of(register, breaker=Breaker("warehouse")) as channel:
        yield Operations(database, Warehouse(channel))


@pytest.mark.parametrize("whole", [True, False])
async def test_warehouse_defect_leaves_the_commit_pending(
    orders: Orders,
    operations: Operations,
    connected: Operations,
    reservations: FailingReservations,
    whole: bool,
) -> None:
    """INTERNAL says nothing about the stock. The paid order is confirmed all the same, its commit
    is completed later, and no event fails.
    """
    reservations.whole = whole
    order = await place(orders, operations, "london")
    [outcome] = await deliver(connected, [delivery(paid(order))])
    assert isinstance(outcome, Done)
    [order] = await operations.reading.get_orders([order.id])
    assert (order.status, order.stock) == (Status.CONFIRMED, StockStatus.COMMIT_PENDING)


async def test_batch_too_large_is_committed_in_parts(
    connected: Operations, reservations: FailingReservations
) -> None:
    """Where the answer to five orders would be too large, smaller calls answer each of them."""
    reservations.whole, reservations.most = False, 2
    attempts = [(uuid4(), 1) for _ in range(5)]
    answers = await connected.payments.warehouse.commit(uuid4(), attempts)
    assert set(answers) == {order_id for order_id, _ in attempts}


async def test_cancellation_retries_the_release(
    orders: Orders, operations: Operations, connected: Operations, reservations: FailingReservations
) -> None:
    """The warehouse fails twice and succeeds the third time: three tries with one key, 100 ms and
    200 ms apart. No failure is counted.
    """
    order = await place(orders, operations, "london")
    before, reservations.failing = measured("order_release_failures_total"), 2
    cancelled = await connected.cancellation.cancel(cancel(order))
    assert cancelled.status is Status.CANCELLED
    assert [
        [entry.order_id for entry in request.order_attempts] for request in reservations.asked
    ] == [[str(order.id)]] * 3
    assert len({request.request_id for request in reservations.asked}) == 1
    first, second, third = reservations.times
    assert second - first >= 0.1
    assert third - second >= 0.2
    assert measured("order_release_failures_total") == before


async def test_failed_release_is_counted_and_order_is_cancelled(
    orders: Orders, operations: Operations, connected: Operations, reservations: FailingReservations
) -> None:
    """After three tries there is no fourth; the order is cancelled, and the failure is counted
    once.
    """
    order = await place(orders, operations, "london")
    before, reservations.failing = measured("order_release_failures_total"), 99
    assert (await connected.cancellation.cancel(cancel(order))).status is Status.CANCELLED
    assert len(reservations.asked) == 3
    assert measured("order_release_failures_total") == before + 1


async def test_release_stops_at_the_callers_deadline(
    orders: Orders,
    operations: Operations,
    connected: Operations,
    reservations: FailingReservations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause before the third try would exceed the caller's deadline: two tries, the order is
    cancelled, and the failure is counted.
    """
    order = await place(orders, operations, "london")
    before, reservations.failing = measured("order_release_failures_total"), 99
    monkeypatch.setattr("order_svc.operations.releasing.BACK_OFF_S", (0.0, 60.0))
    with caller_deadline(50):
        assert (await connected.cancellation.cancel(cancel(order))).status is Status.CANCELLED
    assert len(reservations.asked) == 2
    assert measured("order_release_failures_total") == before + 1


async def test_only_unreleased_orders_are_released_again(
    orders: Orders,
    operations: Operations,
    connected: Operations,
    reservations: FailingReservations,
    engine: AsyncEngine,
) -> None:
    """One order of a set is refused for the moment: only that one is released again."""
    one, other = (
        await place(orders, operations, "london"),
        await place(orders, operations, "london"),
    )
    reservations.retryable = {str(one.id)}
    await overdue(engine, one, other)
    await connected.cancellation.expire_orders()
    asked = [{entry.order_id for entry in request.order_attempts} for request in reservations.asked]
    assert asked == [{str(one.id), str(other.id)}, {str(one.id)}, {str(one.id)}]


async def test_cancellation_with_an_open_breaker_succeeds(
    orders: Orders, operations: Operations, connected: Operations, reservations: FailingReservations
) -> None:
    """After a series of failures the open breaker allows no call to the warehouse, and orders are
    cancelled all the same.
    """
    reservations.failing = 99
    for _ in range(3):
        order = await place(orders, operations, "london")
        assert (await connected.cancellation.cancel(cancel(order))).status is Status.CANCELLED
    assert len(reservations.asked) == 5
