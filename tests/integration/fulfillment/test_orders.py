"""Effects of the order's events on a real database: one fulfilment for each warehouse, once, with
its commit confirmed.
"""

import asyncio
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.warehouse.v1.reservation_service_pb2 import ReservationFailure
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done, unwrap
from chassis.values.errors import Deferred, Refused
from chassis.values.money import Money
from fulfillment_svc import consumers, tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import InspectionRule, Status
from fulfillment_svc.model.commands import OrderEvent, StartPicking
from fulfillment_svc.model.records import Fulfillment
from fulfillment_svc.store.fulfillments import find_commit_pending, find_fulfillments
from tests.integration.fulfillment.events import (
    ONE_PLACE,
    TWO_PLACES,
    cancelled,
    confirmed,
    delivery,
    order_changed,
    order_event,
)
from tests.integration.fulfillment.peers import FakeWarehouse, Peer
from tests.support import eventually, measured
from tests.unit.fulfillment.samples import envelope, picking_line


async def all_of(engine: AsyncEngine) -> dict[str, Fulfillment]:
    """Returns every fulfilment, by its warehouse."""
    async with engine.connect() as connection:
        ids = (await connection.execute(select(tables.fulfillments.c.id))).scalars().all()
        return {
            each.key.warehouse_id: each
            for each in (await find_fulfillments(connection, ids)).values()
        }


async def published(engine: AsyncEngine) -> list[FulfillmentStatusChanged]:
    """Returns the events that wait to be published, oldest first."""
    async with engine.connect() as connection:
        payloads = (
            await connection.execute(select(tables.outbox.c.payload).order_by(tables.outbox.c.id))
        ).scalars()
        return [FulfillmentStatusChanged.FromString(payload) for payload in payloads]


async def test_one_fulfilment_for_each_warehouse(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """An order of two warehouses becomes two fulfilments in planning, each with its part of the
    lines.

    Committed stock is not requested again.
    """
    [outcome] = await operations.orders.apply_order_events([confirmed(order_id, TWO_PLACES)])
    assert len(unwrap(outcome).fulfillments) == 2
    found = await all_of(engine)
    assert found["DOVER"].lines == (picking_line(1, "mug", 2),)
    assert found["LEEDS"].lines == (picking_line(1, "mug", 1), picking_line(2, "Lamp, blue", 1))
    assert {(each.status, each.stock_committed, each.version) for each in found.values()} == {
        (Status.PLANNING, True, 2)
    }
    assert stock.asked == []


async def test_each_step_is_published_with_its_fulfilment(
    operations: Operations, engine: AsyncEngine, order_id: UUID
) -> None:
    """Two events are published in the order of their versions: pending, then planning."""
    await operations.orders.apply_order_events([confirmed(order_id)])
    events = await published(engine)
    assert [
        (e.fulfillment.version, e.fulfillment.status, e.old_status, e.new_status) for e in events
    ] == [(1, 1, 0, 1), (2, 2, 1, 2)]
    assert {e.fulfillment.order_id for e in events} == {str(order_id)}
    assert [line.quantity for line in events[0].fulfillment.picklist] == [2, 1]


async def test_repeated_event_makes_no_second_fulfilment(
    operations: Operations, engine: AsyncEngine, order_id: UUID
) -> None:
    """An event that comes twice in a set, and again later, leaves the same fulfilments and
    publishes each event once.
    """
    event = confirmed(order_id, TWO_PLACES)
    first = await operations.orders.apply_order_events([event, event])
    again = await operations.orders.apply_order_events([event])
    assert [unwrap(outcome) for outcome in first] == [unwrap(again[0])] * 2
    assert len(await published(engine)) == 4


async def test_concurrent_replicas_make_one_fulfilment_each(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Many sets over the same orders run at once, by different events. Each work has one
    fulfilment, and no event is refused.
    """
    orders = [uuid4() for _ in range(5)]
    sets = [
        [order_event(order_changed(id, TWO_PLACES, total=Money(n, "GBP"))) for id in orders]
        for n in range(6)
    ]
    outcomes = await asyncio.gather(
        *(
            operations.orders.apply_order_events(events if n % 2 else events[::-1])
            for n, events in enumerate(sets)
        )
    )
    assert all(isinstance(outcome, Done) for several in outcomes for outcome in several)
    async with engine.connect() as connection:
        assert (
            await connection.execute(select(func.count()).select_from(tables.fulfillments))
        ).scalar_one() == 10


async def test_other_order_events_change_nothing(
    operations: Operations, engine: AsyncEngine, order_id: UUID
) -> None:
    """Every other status, and cancelled after it, makes no fulfilment; nor does an order that is
    cancelled unpaid.
    """
    pending, confirmed_status, cancelled_status = (
        order_pb2.ORDER_STATUS_PENDING,
        order_pb2.ORDER_STATUS_CONFIRMED,
        order_pb2.ORDER_STATUS_CANCELLED,
    )
    others = [
        status
        for status in order_pb2.OrderStatus.values()
        if status not in (0, confirmed_status, cancelled_status)
    ]
    events = [order_changed(order_id, new=s, old=confirmed_status) for s in others]
    events.append(order_changed(order_id, new=cancelled_status, old=pending))
    handlers = consumers.handlers(operations.orders, operations.writer)
    outcomes = await handlers[order_events_pb2.OrderStatusChanged](
        [delivery(event) for event in events]
    )
    assert list(outcomes) == [Done(record=None)] * len(events)
    assert await all_of(engine) == {}


async def test_inspection_is_decided_with_the_plan(
    operations: Operations, engine: AsyncEngine, order_id: UUID
) -> None:
    """The fulfilment of an expensive order says that it will be inspected, and why."""
    await operations.orders.apply_order_events([confirmed(order_id, total=Money(1000_00, "GBP"))])
    assert (await all_of(engine))["DOVER"].inspection_rule is InspectionRule.ORDER_VALUE
    assert (
        await published(
            engine,
        )
    )[0].fulfillment.inspection_rule == fulfillment_pb2.INSPECTION_RULE_ORDER_VALUE


async def test_pending_stock_is_committed_while_planning(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """Pending commits of a set are requested in one call; committed orders need no call."""
    other, third = uuid4(), uuid4()
    stock.lines_by_warehouse = {str(id): ONE_PLACE for id in (order_id, other)}
    await operations.orders.apply_order_events(
        [
            confirmed(order_id, commit_pending=True),
            confirmed(other, commit_pending=True),
            confirmed(third),
        ]
    )
    assert [set(asked) for asked in stock.asked] == [{str(order_id), str(other)}]
    async with engine.connect() as connection:
        assert set(
            (await connection.execute(select(tables.fulfillments.c.stock_committed))).scalars()
        ) == {True}


async def test_repeated_confirmation_asks_no_peer(
    operations: Operations, order_id: UUID, stock: FakeWarehouse
) -> None:
    """The repeat of a confirmation calls no peer for a planned fulfilment."""
    stock.lines_by_warehouse = {str(order_id): ONE_PLACE}
    for _ in range(2):
        await operations.orders.apply_order_events([confirmed(order_id, commit_pending=True)])
    assert len(stock.asked) == 1


async def test_commit_stays_pending_while_warehouse_is_down(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, warehouse_peer: Peer
) -> None:
    """A fulfilment is planned with its commit pending: readers see it, and pickers cannot pick it.

    The worker requests commits in batches, past refused ones, until the warehouse answers.
    """
    orders = [uuid4() for _ in range(5)]
    await warehouse_peer.down()
    outcomes = await operations.orders.apply_order_events(
        [confirmed(id, commit_pending=True) for id in orders]
    )
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    waiting = (await all_of(engine))["DOVER"]
    assert (waiting.status, waiting.stock_committed) == (Status.PLANNING, False)
    with pytest.raises(Refused, match="committed"):
        await operations.staff.change(envelope(StartPicking, target=waiting.id))
    with pytest.raises(Deferred):
        await operations.commits.commit_pending_stock()
    # the failed call is counted all the same
    assert measured("fulfillments_commit_pending", answer="deferred") == len(orders)

    stock.lines_by_warehouse = {str(id): ONE_PLACE for id in orders[2:]}
    stock.refused = {
        str(orders[0]): ReservationFailure(reason="RESERVATION_EXPIRED", retryable=False),
        str(orders[1]): ReservationFailure(reason="CONTENTION", retryable=True),
    }
    await warehouse_peer.up()

    async def asked() -> bool:
        try:
            await operations.commits.commit_pending_stock()
        except Deferred:  # the breaker, or the channel, has not yet seen that the warehouse is back
            return False
        return True

    await eventually(asked)
    async with engine.connect() as connection:
        pending = await find_commit_pending(connection, UUID(int=0), 10)
    assert {each.key.order_id for each in pending} == set(orders[:2])
    assert max(len(call) for call in stock.asked) <= 2  # the batch of this test's operations
    assert measured("fulfillments_commit_pending", answer="refused") == 1
    assert measured("fulfillments_commit_pending", answer="deferred") == 1


async def test_replicas_record_pending_commit_once(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, warehouse_peer: Peer
) -> None:
    """Two workers commit and record the same stock at once: one version each, and both succeed."""
    orders = [uuid4() for _ in range(4)]
    stock.refused = {
        str(id): ReservationFailure(reason="CONTENTION", retryable=True) for id in orders
    }
    await operations.orders.apply_order_events(
        [confirmed(id, commit_pending=True) for id in orders]
    )
    stock.lines_by_warehouse = {str(id): ONE_PLACE for id in orders}
    await asyncio.gather(*(operations.commits.commit_pending_stock() for _ in range(3)))
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(tables.fulfillments.c.stock_committed, tables.fulfillments.c.version)
        )
        assert [tuple(row) for row in rows] == [(True, 3)] * 4


async def test_pending_commit_has_the_key_of_its_attempt(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """The key has the order and the attempt, so replicas of all releases record an attempt's commit
    once.
    """
    stock.refused = {str(order_id): ReservationFailure(reason="CONTENTION", retryable=True)}
    await operations.orders.apply_order_events([confirmed(order_id, commit_pending=True)])
    stock.lines_by_warehouse = {str(order_id): ONE_PLACE}
    await operations.commits.commit_pending_stock()
    key = f"fulfillment.stock_committed:{order_id}:1"
    keys = tables.idempotency_keys.c
    query = select(keys.request_hash, keys.target).where(keys.key == key)
    async with engine.connect() as connection:
        assert tuple((await connection.execute(query)).one()) == (b"", order_id)


async def test_stock_committed_elsewhere_moves_the_fulfilment(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """An expired reservation was replaced in other warehouses: the new fulfilments are there, and
    the old one ends without units.
    """
    stock.refused = {str(order_id): ReservationFailure(reason="CONTENTION", retryable=True)}
    expensive = Money(5000_00, "GBP")
    await operations.orders.apply_order_events(
        [
            confirmed(
                order_id,
                {"DOVER": [(1, "mug", 3)], "LEEDS": [(2, "cup", 1)]},
                commit_pending=True,
                total=expensive,
            )
        ]
    )
    stock.lines_by_warehouse = {
        str(order_id): {"LEEDS": [(1, "mug", 1), (2, "cup", 1)], "YORK": [(1, "mug", 2)]}
    }
    await operations.commits.commit_pending_stock()
    found = await all_of(engine)
    assert (found["DOVER"].status, found["DOVER"].lines) == (Status.CANCELLED, ())
    assert (found["LEEDS"].status, found["LEEDS"].lines) == (
        Status.PLANNING,
        (picking_line(1, "mug", 1), picking_line(2, "cup", 1)),
    )
    assert (found["YORK"].status, found["YORK"].lines) == (
        Status.PLANNING,
        (picking_line(1, "mug", 2),),
    )
    assert found["YORK"].inspection_rule is InspectionRule.ORDER_VALUE
    assert found["YORK"].order_number == found["LEEDS"].order_number
    assert found["LEEDS"].stock_committed
    assert found["YORK"].stock_committed


async def test_stock_moved_before_planning_is_planned_in_its_place(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """Where the warehouse answers at once, the picklists follow its answer and not the older
    event.
    """
    stock.lines_by_warehouse = {str(order_id): {"YORK": [(1, "mug", 2), (2, "Lamp, blue", 1)]}}
    await operations.orders.apply_order_events([confirmed(order_id, commit_pending=True)])
    assert list(await all_of(engine)) == ["YORK"]


@pytest.mark.parametrize("order", list(permutations([confirmed, cancelled])))
async def test_cancelled_order_has_no_open_fulfilment_in_any_order(
    operations: Operations, engine: AsyncEngine, order_id: UUID, order: object
) -> None:
    """Confirmed and cancelled, each twice and in both orders, leave cancelled fulfilments. They
    publish their units as cut once.
    """
    assert isinstance(order, tuple)
    for event in (*order, *order):
        await operations.orders.apply_order_events([event(order_id, TWO_PLACES)])
    assert {each.status for each in (await all_of(engine)).values()} == {Status.CANCELLED}
    last = [e for e in await published(engine) if e.fulfillment.status == 10]
    assert sorted(sum(line.cut_quantity for line in e.fulfillment.picklist) for e in last) == [2, 2]
    assert {line.quantity for e in last for line in e.fulfillment.picklist} == {0}


async def test_confirmation_and_cancellation_in_set_are_one_record(
    operations: Operations, engine: AsyncEngine, order_id: UUID
) -> None:
    """Events that confirm and cancel an order can come in one set: they concern one record, and one
    write applies both.
    """
    taken = measured("write_retries_total", error_class="taken")
    confirmation, cancellation = await operations.orders.apply_order_events(
        [confirmed(order_id), cancelled(order_id)]
    )
    assert [each.id for each in unwrap(confirmation).fulfillments] == [
        each.id for each in unwrap(cancellation).fulfillments
    ]
    assert (await all_of(engine))["DOVER"].status is Status.CANCELLED
    assert measured("write_retries_total", error_class="taken") == taken


async def test_cancelled_order_cancels_moved_fulfilment(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """The cancellation reaches every warehouse that works for the order, also one that the order
    service has not stored yet.
    """
    stock.lines_by_warehouse = {str(order_id): {"YORK": [(1, "mug", 2), (2, "Lamp, blue", 1)]}}
    await operations.orders.apply_order_events([confirmed(order_id, commit_pending=True)])
    await operations.orders.apply_order_events([cancelled(order_id)])
    found = await all_of(engine)
    assert {at: each.status for at, each in found.items()} == {
        "YORK": Status.CANCELLED,
        "DOVER": Status.CANCELLED,
    }
    assert [line.cut for line in found["YORK"].lines] == [2, 1]


def test_order_event_has_lines_by_warehouse(order_id: UUID) -> None:
    """Units of a line that one warehouse serves from two reservations are one line of its
    picklist.
    """
    event: OrderEvent = confirmed(order_id, {"DOVER": [(1, "mug", 2), (1, "mug", 1)]}).command
    assert event.lines_by_warehouse == {"DOVER": (picking_line(1, "mug", 3),)}
