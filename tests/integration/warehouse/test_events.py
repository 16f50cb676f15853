"""How the warehouse applies the events of other services, repeated, in every order and concurrent,
and the events that it publishes.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.v1 import order_pb2
from ordermesh.warehouse.events.v1.warehouse_events_pb2 import ReservationStatusChanged
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, NotFound, Refused
from tests.integration.warehouse.events import (
    CANCELLED,
    CONFIRMED,
    FAILED,
    PENDING,
    PROCESSING,
    WORK,
    attempt_never_started,
    delivery,
    fulfillment_status_changed,
    inspected,
    items_cancelled,
    lines_changed,
    order_status_changed,
)
from tests.integration.warehouse.requests import as_stored, count
from tests.integration.warehouse.stock import reserved, stocked
from tests.unit.warehouse.world import adjust, confirm, expire, receive, reserve
from warehouse_svc import consumers
from warehouse_svc.app import Operations
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.records import Reservation
from warehouse_svc.tables import idempotency_keys, movements, outbox

SHIPPED, COMPLETED = WORK.FULFILLMENT_STATUS_SHIPPED, WORK.FULFILLMENT_STATUS_COMPLETED
PICKING, CALLED_OFF = WORK.FULFILLMENT_STATUS_PICKING, WORK.FULFILLMENT_STATUS_CANCELLED


async def consume(operations: Operations, *deliveries: Delivery[Message]) -> list[Outcome[Any]]:
    """Hands over a batch as the inbox does: each event type as one set, one type after the
    other.
    """
    outcomes: dict[int, Outcome[Any]] = {}
    for kind, handler in consumers.handlers(operations.writer).items():
        if chosen := [d for d in deliveries if isinstance(d.message, kind)]:
            outcomes |= {
                id(d): outcome for d, outcome in zip(chosen, await handler(chosen), strict=True)
            }
    return [outcomes[id(d)] for d in deliveries]


async def settle(
    operations: Operations, waiting: Sequence[Delivery[Message]], dice: random.Random
) -> None:
    """Hands all over, shuffled and cut into batches; deferred events come again."""
    waiting = dice.sample(waiting, len(waiting))
    while waiting:
        size = dice.randint(1, 8)
        batch, waiting = waiting[:size], waiting[size:]
        outcomes = await consume(operations, *batch)
        assert all(isinstance(outcome, Done | Deferred) for outcome in outcomes), outcomes
        waiting += [
            d for d, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Deferred)
        ]


def names(outcomes: Sequence[Outcome[Any]]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


async def published(engine: AsyncEngine) -> list[ReservationStatusChanged]:
    """Returns the outbox's events of reservations, oldest first."""
    query = (
        select(outbox.c.payload)
        .where(outbox.c.type == ReservationStatusChanged.DESCRIPTOR.full_name)
        .order_by(outbox.c.id)
    )
    async with engine.connect() as connection:
        return [
            ReservationStatusChanged.FromString(payload)
            for payload in (await connection.execute(query)).scalars()
        ]


def lives(order: Mapping[str, UUID]) -> list[Message]:
    """Returns all events of orders of two units of tea, which only both warehouses together have,
    by the end of the order.
    """
    sold, paid_late, unpaid, unlucky = (
        order["sold"],
        order["paid late"],
        order["unpaid"],
        order["unlucky"],
    )
    called_off, raced = order["called off"], order["raced"]
    events: list[Message] = []
    for order_id in (sold, paid_late):
        events += [
            order_status_changed(order_id, PENDING, CONFIRMED),
            order_status_changed(order_id, CONFIRMED, PROCESSING),
        ]
        for at in ("london", "york"):
            events += [
                fulfillment_status_changed(order_id, at, status, {1: 1})
                for status in (PICKING, SHIPPED, COMPLETED)
            ]
    events += [
        order_status_changed(unpaid, PENDING, CANCELLED),
        order_status_changed(raced, PENDING, CANCELLED),
        order_status_changed(unlucky, PENDING, FAILED),
    ]
    events += [
        order_status_changed(called_off, PENDING, CONFIRMED),
        order_status_changed(called_off, PROCESSING, CANCELLED),
    ]
    return events + [
        fulfillment_status_changed(called_off, at, CALLED_OFF, {1: (0, 1, 0, 0)})
        for at in ("london", "york")
    ]


@pytest.mark.parametrize("seed", range(8))
async def test_events_in_any_order_leave_the_same_stock(
    operations: Operations, engine: AsyncEngine, seed: int
) -> None:
    """The events come shuffled, doubled and cut into sets: sold units have left, all others are
    back, and no movement is posted twice.
    """
    dice = random.Random(seed)
    orders: dict[str, UUID] = {}
    for ending in ("sold", "paid late", "unpaid", "unlucky", "called off", "raced"):
        await stocked(operations, tea=1)
        orders[ending] = await reserved(operations, ("tea", 2))
    await operations.writer.write(
        [confirm(orders[ending]) for ending in ("sold", "called off", "raced")]
    )
    await settle(operations, [d for d in map(delivery, lives(orders)) for _ in range(2)], dice)
    world = await as_stored(engine)
    world.check()
    assert [world.balances(at, "tea") for at in ("london", "york")] == [(4, 0, 0, 0)] * 2
    closed, released = [Status.CLOSED] * 2, [Status.RELEASED] * 2
    ended = {
        ending: [r.status for r in world.attempt_reservations(order_id)]
        for ending, order_id in orders.items()
    }
    assert ended == {
        "sold": closed,
        "paid late": closed,
        "called off": closed,
        "raced": closed,
        "unpaid": released,
        "unlucky": released,
    }


def troubled(order_id: UUID, reservations: Sequence[Reservation], source: UUID) -> list[Message]:
    """Returns all events of an order of four units of tea in London: one is cut, one not found, one
    spoiled and not replaced. The order publishes each.

    The last one ships, and comes back damaged.
    """
    events: list[Message] = [
        order_status_changed(order_id, PENDING, CONFIRMED),
        order_status_changed(order_id, CONFIRMED, PROCESSING),
    ]
    for remaining, picklist in ((3, (3, 1, 0, 0)), (2, (2, 1, 1, 0)), (1, (1, 1, 1, 1))):
        events += [
            items_cancelled(order_id, {1: remaining}, reservations, PROCESSING),
            lines_changed(order_id, "london", {1: picklist}),
        ]
    events += [
        fulfillment_status_changed(order_id, "london", status, {1: (1, 1, 1, 1)})
        for status in (PICKING, SHIPPED, COMPLETED)
    ]
    return [
        *events,
        inspected(order_id, source, "leeds", {1: (0, 0)}),
        inspected(order_id, source, "leeds", {1: (0, 1)}),
    ]


@pytest.mark.parametrize("seed", range(8))
async def test_units_lost_at_any_step_are_counted_once(
    operations: Operations, engine: AsyncEngine, seed: int
) -> None:
    """Units are cut, short, spoiled, shipped and returned, by events sent twice and in any order:
    each unit is counted in one balance at the end.
    """
    dice = random.Random(seed)
    await operations.stock.receive_stock(receive("london", request=uuid4().int, tea=4))
    order_id = await reserved(operations, ("tea", 4))
    await operations.writer.write([confirm(order_id)])
    events = troubled(order_id, (await as_stored(engine)).attempt_reservations(order_id), uuid4())
    await settle(operations, [d for d in map(delivery, events) for _ in range(2)], dice)
    world = await as_stored(engine)
    world.check()
    assert world.balances("london", "tea") == (1, 0, 0, 1)
    assert world.balances("leeds", "tea") == (0, 0, 0, 1)
    [line] = world.attempt_reservations(order_id)[0].lines
    assert (line.uncommitted, line.written_off, line.spoiled, line.shipped) == (1, 2, 1, 1)


@pytest.mark.parametrize("seed", range(6))
async def test_order_cancelled_item_by_item_returns_all_units(
    operations: Operations, engine: AsyncEngine, seed: int
) -> None:
    """The order is cancelled line by line, while it is pending, while its commit is pending, and
    while it is picked, until no unit is left. All units are back in both warehouses.
    """
    dice = random.Random(seed)
    await stocked(operations, tea=3)
    order_id = await reserved(operations, ("tea", 6))
    reservations = (await as_stored(engine)).attempt_reservations(order_id)
    events: list[Message] = [
        items_cancelled(order_id, {1: 5}, reservations, PENDING),
        items_cancelled(order_id, {1: 4}, reservations, CONFIRMED),
    ]
    events += [
        order_status_changed(order_id, PENDING, CONFIRMED),
        order_status_changed(order_id, PROCESSING, CANCELLED),
    ]
    events += [
        items_cancelled(order_id, {1: 1}, reservations, PROCESSING),
        lines_changed(order_id, "london", {1: (1, 2, 0, 0)}),
    ]
    events += [
        fulfillment_status_changed(order_id, at, CALLED_OFF, {1: (0, 3, 0, 0)})
        for at in ("london", "york")
    ]
    await settle(operations, [d for d in map(delivery, events) for _ in range(2)], dice)
    world = await as_stored(engine)
    world.check()
    assert [world.balances(at, "tea") for at in ("london", "york")] == [(3, 0, 0, 0)] * 2


async def test_cancelled_fulfilment_of_previous_version_has_no_units(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A replica of the previous version publishes the units that a cancelled fulfilment had: the
    warehouse still counts none for it.
    """
    await stocked(operations, tea=1)
    order_id = await reserved(operations, ("tea", 2))
    await operations.writer.write([confirm(order_id)])
    await consume(
        operations,
        *(
            delivery(fulfillment_status_changed(order_id, at, CALLED_OFF, {1: 1}))
            for at in ("london", "york")
        ),
    )
    world = await as_stored(engine)
    assert [world.balances(at, "tea") for at in ("london", "york")] == [(1, 0, 0, 0)] * 2


async def test_a_picklist_counts_once_its_stock_is_committed(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Before the commit a picklist can change, and its units do not count; an empty one was another
    warehouse's work.
    """
    await stocked(operations, tea=1)
    order_id = await reserved(operations, ("tea", 2))
    await operations.writer.write([confirm(order_id)])
    early = lines_changed(order_id, "london", {1: (0, 1, 0, 0)})
    early.fulfillment.stock_committed = False
    withdrawn = fulfillment_status_changed(order_id, "york", CALLED_OFF, {})
    before = await count(engine, idempotency_keys, movements)
    assert names(await consume(operations, delivery(early), delivery(withdrawn))) == [
        "Done",
        "Done",
    ]
    assert await count(engine, idempotency_keys, movements) == before


async def test_order_event_completes_pending_commit(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Units that no call has confirmed are committed, and the attempt's reservations are published;
    a repeat changes nothing.
    """
    await stocked(operations, tea=1)
    order_id = await reserved(operations, ("tea", 2))
    event = order_status_changed(order_id, PENDING, CONFIRMED)
    assert names(await consume(operations, delivery(event))) == ["Done"]
    changes = await published(engine)
    assert [(c.old_status, c.reservation.status) for c in changes] == [
        (warehouse_pb2.RESERVATION_STATUS_ACTIVE, warehouse_pb2.RESERVATION_STATUS_CONFIRMED)
    ] * 2
    for change in changes:
        assert [r.warehouse_id for r in change.attempt_reservations] == ["london", "york"]
        assert change.reservations_version == 2
        assert not change.HasField("confirm_refused_reason")
    posted = await count(engine, movements, outbox)
    assert names(await consume(operations, delivery(event))) == ["Done"]
    assert await count(engine, movements, outbox) == posted


async def test_closed_attempt_uncommits_units_committed_elsewhere(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Units are reserved in London, expire and are sold, and are committed in York. Neither order
    nor fulfilment has consumed that when the order is cancelled.

    The report that no work on the attempt started puts York's units back. Each event comes twice,
    in every order of commit, close and report.
    """
    await operations.stock.receive_stock(receive("york", tea=2))
    for several in permutations(["commit", "close", "report"]):
        await operations.stock.receive_stock(receive("london", tea=2))
        order_id = (
            await operations.reservations.reserve_stock(
                reserve(("tea", 2), order=uuid4(), ttl=timedelta(0))
            )
        ).order_id
        await operations.reservations.expire_reservations()
        await operations.stock.adjust_stock(adjust("london", "tea", -2))
        events: dict[str, Message] = {
            "commit": order_status_changed(order_id, PENDING, CONFIRMED),
            "close": order_status_changed(order_id, CONFIRMED, CANCELLED),
            "report": attempt_never_started(order_id, "london", {1: (0, 2, 0, 0)}),
        }
        for name in several:
            repeated = delivery(events[name])
            assert (
                names(await consume(operations, repeated))
                == names(await consume(operations, repeated))
                == ["Done"]
            )
            if several[:2] == ("commit", "close") and name == "close":
                assert (await as_stored(engine)).balances("york", "tea") == (0, 0, 2, 0)
        world = await as_stored(engine)
        world.check()
        assert (world.balances("london", "tea"), world.balances("york", "tea")) == (
            (0, 0, 0, 0),
            (2, 0, 0, 0),
        )


async def test_final_refusal_is_published_once_for_each_event(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A pending commit of expired and sold units is refused: the event is done, and the order
    decides the consequence.
    """
    await stocked(operations, tea=1)
    command = reserve(("tea", 2), order=uuid4(), ttl=timedelta(0))  # it had expired from the start
    await operations.reservations.reserve_stock(command)
    assert await operations.reservations.expire_reservations() == 1
    await reserved(operations, ("tea", 1))
    before = len(await published(engine))
    event = delivery(order_status_changed(command.target, PENDING, CONFIRMED))
    for _ in range(2):
        assert names(await consume(operations, event)) == ["Done"]
    [refused] = (await published(engine))[before:]
    assert refused.confirm_refused_reason == "RESERVATION_EXPIRED"
    assert (
        refused.reservation.status == refused.old_status == warehouse_pb2.RESERVATION_STATUS_EXPIRED
    )
    assert refused.reservation.order_id == str(command.target)


async def test_early_events_wait(operations: Operations, engine: AsyncEngine) -> None:
    """Units that are not committed yet cannot ship, and unknown orders cannot confirm. Neither
    event leaves a key, and the others are applied.
    """
    await stocked(operations, tea=1)
    order_id, other = await reserved(operations, ("tea", 1)), await reserved(operations, ("tea", 1))
    await operations.writer.write([confirm(other)])
    world = await as_stored(engine)
    [at], [other_at] = (
        [r.warehouse_id for r in world.attempt_reservations(each)] for each in (order_id, other)
    )
    early = delivery(fulfillment_status_changed(order_id, at, SHIPPED, {1: 1}))
    unknown = delivery(order_status_changed(uuid4(), PENDING, CONFIRMED))
    known = await count(engine, idempotency_keys)
    outcomes = await consume(
        operations,
        early,
        unknown,
        delivery(fulfillment_status_changed(other, other_at, SHIPPED, {1: 1})),
    )
    assert [type(outcome) for outcome in outcomes] == [Deferred, NotFound, Done]
    assert await count(engine, idempotency_keys) == [known[0] + 1]
    assert names(
        await consume(
            operations, delivery(order_status_changed(order_id, PENDING, CONFIRMED)), early
        )
    ) == ["Done", "Done"]
    (await as_stored(engine)).check()


async def test_an_impossible_report_is_refused(operations: Operations, engine: AsyncEngine) -> None:
    """A report of more units than were committed moves no stock, and an operator has to check
    it.
    """
    await stocked(operations, tea=9)
    order_id = await reserved(operations, ("tea", 2))
    await operations.writer.write([confirm(order_id)])
    [outcome] = await consume(
        operations, delivery(fulfillment_status_changed(order_id, "london", SHIPPED, {1: 3}))
    )
    assert isinstance(outcome, Refused)
    assert outcome.reason == "STOCK_BELOW_RESERVED"
    (await as_stored(engine)).check()


async def test_status_without_stock_effect_is_done(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Statuses that move no units, unknown ones of a later version among them, store nothing."""
    before = await count(engine, idempotency_keys, movements, outbox)
    # a value that a later contract may add
    unknown = order_status_changed(uuid4(), PENDING, 99)  # type: ignore[arg-type]
    outcomes = await consume(
        operations,
        delivery(unknown),
        delivery(fulfillment_status_changed(uuid4(), "london", PICKING, {1: 1})),
    )
    assert names(outcomes) == ["Done", "Done"]
    assert await count(engine, idempotency_keys, movements, outbox) == before


async def test_confirmation_during_expiry_has_one_outcome(
    operations: Operations, engine: AsyncEngine
) -> None:
    """In either order, the order has its units or is refused; no unit is reserved twice."""
    await stocked(operations, tea=30)
    commands = [reserve(("tea", 2), order=uuid4(), ttl=timedelta(0)) for _ in range(20)]
    for command in commands:
        await operations.reservations.reserve_stock(command)
    confirming = [
        consume(operations, delivery(order_status_changed(command.target, PENDING, CONFIRMED)))
        for command in commands
    ]
    await asyncio.gather(
        *confirming,
        operations.reservations.expire_reservations(),
        operations.writer.write([expire(commands[0].target)]),
    )
    world = await as_stored(engine)
    world.check()
    assert sum(world.balances(at, "tea")[2] for at in ("london", "york")) == 40


async def test_cancelled_units_of_a_commit_are_uncommitted(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Units were cancelled after the order's reservations expired, and committed with the others
    before the warehouse consumed the cancellation.

    The order's confirmation names the units that it keeps, and the cancelled ones are back on the
    shelf, because no fulfilment names them. A repeat has no further effect.
    """
    await operations.stock.receive_stock(receive("london", request=uuid4().int, tea=3))
    order_id = (
        await operations.reservations.reserve_stock(
            reserve(("tea", 3), order=uuid4(), ttl=timedelta(0))
        )
    ).order_id
    assert await operations.reservations.expire_reservations() == 1
    expired = (await as_stored(engine)).attempt_reservations(order_id)
    await operations.writer.write([confirm(order_id)])
    assert names(
        await consume(operations, delivery(items_cancelled(order_id, {1: 2}, expired, PENDING)))
    ) == ["Done"]
    reservations = (await as_stored(engine)).attempt_reservations(order_id)
    assert (await as_stored(engine)).balances("london", "tea") == (0, 0, 3, 0)
    committed = order_status_changed(order_id, PENDING, CONFIRMED)
    committed.stock_status = order_pb2.STOCK_STATUS_COMMITTED
    committed.items.extend(items_cancelled(order_id, {1: 2}, reservations, CONFIRMED).items)
    for event in (delivery(committed), delivery(committed)):
        assert names(await consume(operations, event)) == ["Done"]
    world = await as_stored(engine)
    world.check()
    assert world.balances("london", "tea") == (1, 0, 2, 0)
