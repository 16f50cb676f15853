"""Concurrent changes of one order: each is applied whole or refused, in every order."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Failure
from order_svc import tables
from order_svc.app import Operations
from order_svc.lifecycle import Status
from order_svc.model.records import Order, Transition
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import WORK, delivery, fewer_lines, paid, with_units, working
from tests.integration.order.requests import Orders, overdue
from tests.integration.order.test_cancellation import cancel, cancel_items, failed, now, retry
from tests.integration.order.test_events import deliver, place

RACES = range(8)


async def together(*works: Awaitable[Any]) -> list[str]:
    """Runs the works at once; returns "" for each that succeeded, else the reason of its
    failure.
    """
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Failure):
            raise outcome
    return [outcome.reason if isinstance(outcome, Failure) else "" for outcome in outcomes]


async def history(engine: AsyncEngine, order: Order) -> list[Transition]:
    statement = (
        select(tables.history)
        .where(tables.history.c.order_id == order.id)
        .order_by(tables.history.c.version)
    )
    async with engine.connect() as connection:
        return [Transition(**row._mapping) for row in await connection.execute(statement)]


async def count_published(engine: AsyncEngine, order: Order) -> int:
    """Returns the number of an order's events."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(tables.outbox.c.id).where(tables.outbox.c.aggregate == order.id)
        )
        return len(rows.all())


async def consistent(engine: AsyncEngine, operations: Operations, order: Order) -> Order:
    """Returns the current order.

    Asserts that each version has a history row and an event, and that each step starts from the
    status where the one before ended.
    """
    current, transitions = await now(operations, order), await history(engine, order)
    assert [transition.version for transition in transitions] == list(range(1, current.version + 1))
    assert await count_published(engine, order) == current.version
    assert [transition.old for transition in transitions] == [
        None,
        *(transition.new for transition in transitions[:-1]),
    ]
    assert transitions[-1].new is current.status
    return current


@pytest.mark.parametrize("seed", RACES)
async def test_cancel_during_payment_ends_cancelled(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine, seed: int
) -> None:
    """The order ends cancelled in both orders: it was paid before, or the money is stored as late.
    It never ends confirmed.
    """
    order = await place(orders, operations, "london")
    works = [ask(orders.CancelOrder, cancel(order)), deliver(operations, [delivery(paid(order))])]
    random.Random(seed).shuffle(works)
    assert await together(*works) == ["", ""]
    current = await consistent(engine, operations, order)
    assert (current.status, current.captured) == (Status.CANCELLED, order.total)
    passed = [transition.new for transition in await history(engine, order)]
    late = [event.reason for event in current.late_events]
    assert (passed, late) in (
        ([Status.PENDING, Status.CONFIRMED, Status.CANCELLED], []),
        ([Status.PENDING, Status.CANCELLED], ["PAYMENT_CONFIRMED"]),
    )


@pytest.mark.parametrize("seed", RACES)
async def test_expiry_during_payment_ends_in_one_outcome(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine, seed: int
) -> None:
    """The order ends confirmed, or cancelled with the money stored as late, which payment refunds:
    always exactly one of the two.
    """
    order = await place(orders, operations, "london")
    await overdue(engine, order)
    works: list[Awaitable[Any]] = [
        operations.cancellation.expire_orders(),
        deliver(operations, [delivery(paid(order))]),
    ]
    random.Random(seed).shuffle(works)
    assert await together(*works) == ["", ""]
    await operations.cancellation.expire_orders()  # the orders that were locked in the first call
    current = await consistent(engine, operations, order)
    assert current.captured == order.total
    assert (current.status, [event.reason for event in current.late_events]) in (
        (Status.CONFIRMED, []),
        (Status.CANCELLED, ["PAYMENT_CONFIRMED"]),
    )


async def test_concurrent_cancellations_cancel_once(
    orders: Orders, operations: Operations, engine: AsyncEngine
) -> None:
    """Ten callers cancel at once: one cancels, and the others are refused because it is done. Ten
    times the same request is one success.
    """
    order = await place(orders, operations, "london")
    reasons = await together(*(ask(orders.CancelOrder, cancel(order)) for _ in range(10)))
    assert sorted(reasons) == ["", *["ORDER_ALREADY_CANCELLED"] * 9]
    await consistent(engine, operations, order)
    other = await place(orders, operations, "london")
    request = cancel(other)
    assert await together(*(ask(orders.CancelOrder, request) for _ in range(10))) == [""] * 10
    assert (await consistent(engine, operations, other)).version == 2


async def test_concurrent_retries_make_one_attempt(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine
) -> None:
    """Six callers retry at once: one makes the attempt, with one reservation; the others find the
    order pending.
    """
    order = await failed(orders, operations, warehouse)
    reserved = len(warehouse.reserved)
    reasons = await together(*(ask(orders.RetryOrder, retry(order)) for _ in range(6)))
    assert sorted(set(reasons)) in ([""], ["", "ILLEGAL_TRANSITION"])
    assert reasons.count("") == 1
    current = await consistent(engine, operations, order)
    assert (current.status, current.attempt, len(warehouse.reserved)) == (
        Status.PENDING,
        2,
        reserved + 1,
    )


async def test_units_are_never_cancelled_twice(
    orders: Orders, operations: Operations, engine: AsyncEngine
) -> None:
    """Five callers each cancel two of three units: one succeeds, and no line has more cancelled
    units than ordered ones.
    """
    order = await place(orders, operations, "a", "b", "c")
    reasons = await together(
        *(ask(orders.CancelOrderItems, cancel_items(order, {3: 2})) for _ in range(5))
    )
    assert sorted(reasons) == ["", *["ITEMS_NOT_CANCELLABLE"] * 4]
    assert (await consistent(engine, operations, order)).lines[2].cancelled == 2


@pytest.mark.parametrize("seed", RACES)
async def test_cancelled_units_and_short_pick_leave_consistent_units(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine, seed: int
) -> None:
    """A customer cancels units while the picker finds too few; all events come twice, in any order.

    The remaining units are those of the fulfilment, units and allocations agree, and remaining
    units cost the same.
    """
    dice = random.Random(seed)
    order = await place(orders, operations, "a", "b", "c")  # 1, 2 and 3 units
    await deliver(operations, [delivery(paid(order))])
    units = {1: 1, 2: 2, 3: 3}
    stages = [WORK.FULFILLMENT_STATUS_PLANNING, WORK.FULFILLMENT_STATUS_PICKING]
    planning, picking = (with_units(event, units) for event in working(order, "london", stages))
    short = fewer_lines(planning, 3, {1: 1, 2: 2, 3: 2}, "SHORT_PICK")
    cut = fewer_lines(planning, 4, {1: 1, 2: 1, 3: 2}, "UNITS_CUT")
    events: list[Message] = [planning, picking, short, cut]
    deliveries = [delivery(event) for event in events] * 2
    dice.shuffle(deliveries)
    works: list[Awaitable[Any]] = [deliver(operations, [d]) for d in deliveries]
    works.insert(
        dice.randrange(len(works)), ask(orders.CancelOrderItems, cancel_items(order, {2: 1}))
    )
    await together(*works)
    current = await consistent(engine, operations, order)
    assert current.lines[2].cancelled == 1
    # the cut confirmed the caller's cancellation, or came before it
    assert current.lines[1].cancelled in (1, 2)
    for line in current.lines:
        assert sum(allocation.quantity for allocation in line.allocations) == line.remaining
    assert current.total == sum(line.total - line.cost_of(line.cancelled) for line in current.lines)


async def test_batches_and_cancellations_never_deadlock(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine
) -> None:
    """Batches over the same twenty orders run in different directions, with cancellations between
    them. Each call is answered, and each order is consistent.
    """
    several = [await place(orders, operations, "london") for _ in range(20)]
    payments = [delivery(paid(order)) for order in several]

    async def batch(deliveries: Sequence[Any]) -> None:
        outcomes = await deliver(operations, deliveries)
        assert all(isinstance(outcome, Done | Deferred) for outcome in outcomes)

    works: list[Awaitable[Any]] = [
        batch(payments),
        batch(payments[::-1]),
        batch(payments[10:] + payments[:10]),
    ]
    works += [ask(orders.CancelOrder, cancel(order)) for order in several[::3]]
    await together(*works)
    await batch(payments)
    for n, order in enumerate(several):
        current = await consistent(engine, operations, order)
        assert current.status is (Status.CONFIRMED if n % 3 else Status.CANCELLED)
