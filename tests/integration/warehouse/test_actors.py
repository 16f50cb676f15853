"""The ledger and the events of a mutation have its actor, claimed actor, cause and note."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.v1 import order_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from ordermesh.warehouse.v1 import warehouse_pb2 as pb
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.convert import timestamp
from chassis.values.errors import Invalid
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.events import (
    CANCELLED,
    WORK,
    delivery,
    fulfillment_status_changed,
    order_status_changed,
)
from tests.integration.warehouse.requests import attempt, confirm, receive, receive_all, reserve
from warehouse_svc import consumers, tables
from warehouse_svc.app import Operations

ReservationStatusChanged = warehouse_events_pb2.ReservationStatusChanged
StockChanged = warehouse_events_pb2.StockChanged
ACTOR, OTHER = "staff:7f3a", "staff:other"
NOTE = "the pallet was wet"
# Each mutation, with the reason of its events of reservations; empty: it has no such event.
REASONS = {
    "ReceiveStock": "",
    "AdjustStock": "",
    "RestockItem": "",
    "MarkDamaged": "",
    "ReserveStock": "",
    "ConfirmReservation": "STOCK_CONFIRMED",
    "BatchConfirmReservations": "STOCK_CONFIRMED",
    "ReleaseReservation": "STOCK_RELEASED",
    "BatchReleaseReservations": "STOCK_RELEASED",
    "ReplaceSpoiledUnits": "SPOILED_UNITS_REPLACED",
}
COMMITTED = {"ReplaceSpoiledUnits", "RestockItem", "MarkDamaged"}
SHIPPED = {"RestockItem", "MarkDamaged"}


def api_of(method: str) -> Any:
    """Returns the module of the method's request."""
    return inventory if hasattr(inventory, f"{method}Request") else reserving


async def reserved(clients: Clients) -> str:
    """Returns an order with two of nine units."""
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    return (await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))).order_id


async def request_of(clients: Clients, operations: Operations, method: str) -> Any:
    """Returns a request of this method that moves stock."""
    order_id = await reserved(clients)
    if method in COMMITTED:
        await ask(clients.reservations.ConfirmReservation, confirm(order_id))
    if method in SHIPPED:
        shipped = fulfillment_status_changed(
            UUID(order_id), "london", WORK.FULFILLMENT_STATUS_SHIPPED, {1: 2}
        )
        await consumers.handlers(operations.writer)[type(shipped)]([delivery(shipped)])
    back = {
        "warehouse_id": "london",
        "source_id": str(uuid4()),
        "order_id": order_id,
        "line_number": 1,
    }
    batch = {"order_attempts": [attempt(order_id)]}
    one = {"order_attempt": attempt(order_id)}
    spoiled = [reserving.SpoiledLine(line_number=1, spoiled_quantity=1)]
    fields: dict[str, dict[str, Any]] = {
        "ReceiveStock": {
            "warehouse_id": "london",
            "lines": [inventory.ReceivedLine(sku="tea", quantity=1)],
        },
        "AdjustStock": {"warehouse_id": "london", "sku": "tea", "delta": 1},
        "RestockItem": back | {"restocked_quantity": 1},
        "MarkDamaged": back | {"damaged_quantity": 1},
        "ReserveStock": {
            "order_id": str(uuid4()),
            "attempt": 1,
            "lines": [reserving.ReserveLine(line_number=1, sku="tea", quantity=1)],
        },
        "ConfirmReservation": one,
        "BatchConfirmReservations": batch,
        "ReleaseReservation": one,
        "BatchReleaseReservations": batch,
        "ReplaceSpoiledUnits": one | {"warehouse_id": "london", "lines": spoiled},
    }
    return getattr(api_of(method), f"{method}Request")(request_id=str(uuid4()), **fields[method])


async def called(clients: Clients, method: str, request: Message, actor: str | None) -> None:
    """Calls the method, with this claimed actor."""
    stub = clients.inventory if api_of(method) is inventory else clients.reservations
    metadata = [("ordermesh-actor", actor)] if actor else []
    await getattr(stub, method)(request, timeout=10, metadata=metadata)


async def ledger(clients: Clients, cause: str) -> list[pb.StockMovement]:
    """Returns the ledger's rows with this cause."""
    request = inventory.ListStockMovementsRequest(page_size=1000)
    found = (await ask(clients.inventory.ListStockMovements, request)).stock_movements
    return [row for row in found if row.cause_id == cause]


async def events(engine: AsyncEngine) -> list[StockChanged | ReservationStatusChanged]:
    """Returns the events that wait to be published."""
    kinds: dict[str, Any] = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            StockChanged,
            ReservationStatusChanged,
        )
    }
    async with engine.connect() as connection:
        outbox = tables.outbox.c
        rows = await connection.execute(select(outbox.type, outbox.payload).order_by(outbox.id))
        return [kinds[kind].FromString(payload) for kind, payload in rows]


def test_every_mutation_takes_a_note() -> None:
    """The table of this file has each method with a request_id, and each of these methods has a
    note.
    """
    services = [
        *inventory.DESCRIPTOR.services_by_name.values(),
        *reserving.DESCRIPTOR.services_by_name.values(),
    ]
    fields = {m.name: m.input_type.fields_by_name for service in services for m in service.methods}
    mutations = {
        name: request_fields
        for name, request_fields in fields.items()
        if "request_id" in request_fields
    }
    assert set(mutations) == set(REASONS)
    assert [
        name for name, request_fields in mutations.items() if "note" not in request_fields
    ] == []


@pytest.mark.parametrize("method", REASONS)
async def test_mutation_with_actor_and_note_is_recorded(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
    method: str,
) -> None:
    """The ledger has the actor, the claimed actor, the cause and the note; the events have all but
    the note.

    A repeat with another actor adds no row and no event.
    """
    request = await request_of(clients, operations, method)
    request.note = NOTE
    await called(clients, method, request, ACTOR)
    cause = request.request_id
    rows = await ledger(clients, cause)
    assert rows
    assert {
        (
            row.actor,
            row.claimed_actor,
            row.note,
        )
        for row in rows
    } == {("warehouse", ACTOR, NOTE)}
    published = [each for each in await events(engine) if each.cause_id == cause]
    assert {(each.actor, each.claimed_actor) for each in published} == {("warehouse", ACTOR)}
    changed = [each for each in published if isinstance(each, StockChanged)]
    moved = [each.stock_movement.movement_id for each in changed]
    assert moved == [row.movement_id for row in rows]
    reasons = [each.reason for each in published if isinstance(each, ReservationStatusChanged)]
    assert reasons == ([REASONS[method]] if REASONS[method] else [])
    async with engine.connect() as connection:
        bodies = list((await connection.execute(select(tables.outbox.c.payload))).scalars())
    assert not any(NOTE.encode() in body for body in bodies)
    await called(clients, method, request, OTHER)
    assert await ledger(clients, cause) == rows
    assert len(await events(engine)) == len(bodies)


@pytest.mark.parametrize("method", REASONS)
async def test_mutation_without_actor_or_note_leaves_both_unset(
    clients: Clients, operations: Operations, engine: AsyncEngine, method: str
) -> None:
    """The ledger and the events have only the service and the cause."""
    request = await request_of(clients, operations, method)
    await called(clients, method, request, None)
    rows = await ledger(clients, request.request_id)
    assert rows
    assert not any(row.HasField("claimed_actor") or row.HasField("note") for row in rows)
    assert not any(each.HasField("claimed_actor") for each in await events(engine))


async def test_renewal_has_the_note_of_the_repeat(clients: Clients, engine: AsyncEngine) -> None:
    """A repeat of ReserveStock that reserves again stores its own claimed actor, and the note."""
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    request = reserve(("tea", 2), note=NOTE)
    await called(clients, "ReserveStock", request, ACTOR)
    async with engine.begin() as connection:
        await connection.execute(text("update reservations set expire_time = create_time"))
    await called(clients, "ReserveStock", request, OTHER)
    rows = [
        (
            row.kind,
            row.claimed_actor,
            row.note,
        )
        for row in await ledger(clients, request.request_id)
    ]
    assert rows == [
        (pb.STOCK_MOVEMENT_KIND_RESERVE, ACTOR, NOTE),
        (pb.STOCK_MOVEMENT_KIND_EXPIRE, OTHER, NOTE),
        (pb.STOCK_MOVEMENT_KIND_RESERVE, OTHER, NOTE),
    ]


async def test_event_of_a_peer_is_recorded_with_its_service(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The actor is "order" or "fulfillment", and the cause is the event's id."""
    first, second = [await reserved(clients) for _ in range(2)]
    await ask(clients.reservations.ConfirmReservation, confirm(second))
    cancelled = delivery(
        order_status_changed(UUID(first), order_pb2.ORDER_STATUS_PENDING, CANCELLED)
    )
    shipped = delivery(
        fulfillment_status_changed(UUID(second), "london", WORK.FULFILLMENT_STATUS_SHIPPED, {1: 1})
    )
    await consumers.handlers(operations.writer)[type(cancelled.message)]([cancelled])
    await consumers.handlers(operations.writer)[type(shipped.message)]([shipped])
    for event, actor in ((cancelled, "order"), (shipped, "fulfillment")):
        rows = await ledger(clients, str(event.event_id))
        assert rows
        assert {(row.actor, row.HasField("claimed_actor")) for row in rows} == {(actor, False)}
        published = [each for each in await events(engine) if each.cause_id == str(event.event_id)]
        assert {each.actor for each in published} == {actor}


async def test_expiry_is_recorded_with_the_warehouse(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The rows of an expiry have the actor "warehouse" and a cause of their own."""
    await reserved(clients)
    async with engine.begin() as connection:
        await connection.execute(text("update reservations set expire_time = create_time"))
    assert await operations.reservations.expire_reservations() == 1
    [changed] = [
        each
        for each in await events(engine)
        if isinstance(
            each,
            ReservationStatusChanged,
        )
    ]
    assert (changed.actor, changed.reason) == ("warehouse", "TIME_EXPIRED")
    [row] = await ledger(clients, changed.cause_id)
    assert (row.actor, row.kind) == ("warehouse", pb.STOCK_MOVEMENT_KIND_EXPIRE)


async def reserve_three_and_confirm_the_cup(clients: Clients) -> None:
    """Stocks and reserves cup, jam and tea, in turn; then the cup is changed last."""
    for sku in ("cup", "jam", "tea"):
        await ask(clients.inventory.ReceiveStock, receive_all("london", {sku: 9}))
    orders = [
        (await ask(clients.reservations.ReserveStock, reserve((sku, 1)))).order_id
        for sku in ("cup", "jam", "tea")
    ]
    await ask(clients.reservations.ConfirmReservation, confirm(orders[0]))


UpdateTimes = list[tuple[str, Timestamp]]


async def listed_levels(clients: Clients, **fields: Any) -> UpdateTimes:
    """Returns the update times of the listed stock levels, by SKU."""
    request = inventory.ListStockLevelsRequest(**fields)
    answer = await ask(clients.inventory.ListStockLevels, request)
    return [(level.sku, level.update_time) for level in answer.stock_levels]


async def listed_reservations(clients: Clients, **fields: Any) -> UpdateTimes:
    """Returns the update times of the listed reservations, by the SKU of their line."""
    request = reserving.ListReservationsRequest(**fields)
    answer = await ask(clients.reservations.ListReservations, request)
    return [(each.lines[0].sku, each.update_time) for each in answer.reservations]


@pytest.mark.parametrize("listed", [listed_levels, listed_reservations])
async def test_lists_by_update_time_divide_at_the_bound(
    clients: Clients, listed: Callable[..., Awaitable[UpdateTimes]]
) -> None:
    """The lower bound is inclusive, the upper one exclusive, and a nanosecond more rounds up."""
    await reserve_three_and_confirm_the_cup(clients)

    async def skus(**bounds: Timestamp) -> list[str]:
        return [sku for sku, _ in await listed(clients, **bounds)]

    bound = dict(await listed(clients))["tea"]
    above = timestamp(bound.ToDatetime())
    above.nanos += 1
    assert sorted(await skus(update_time_from=bound)) == ["cup", "tea"]
    assert await skus(update_time_before=bound) == ["jam"]
    assert await skus(update_time_from=above) == ["cup"]
    assert sorted(await skus(update_time_before=above)) == ["jam", "tea"]


async def test_page_token_of_other_bounds_is_refused(clients: Clients) -> None:
    """A page token belongs to the bounds of the update time."""
    await reserve_three_and_confirm_the_cup(clients)
    bound = dict(await listed_reservations(clients))["tea"]
    first = inventory.ListStockLevelsRequest(update_time_from=bound, page_size=1)
    first.page_token = (await ask(clients.inventory.ListStockLevels, first)).next_page_token
    first.update_time_from.seconds -= 1
    with pytest.raises(Invalid, match="page_token"):
        await ask(clients.inventory.ListStockLevels, first)
    newest = reserving.ListReservationsRequest(update_time_from=bound, page_size=1)
    newest.page_token = (await ask(clients.reservations.ListReservations, newest)).next_page_token
    newest.update_time_from.seconds -= 1
    with pytest.raises(Invalid, match="page_token"):
        await ask(clients.reservations.ListReservations, newest)


async def test_update_time_of_a_reservation_rises_with_its_changes(clients: Clients) -> None:
    """The update time is that of the creation at first, and that of the last change then."""
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    [made] = (await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))).reservations
    assert made.update_time == made.create_time
    [sold] = (
        await ask(
            clients.reservations.ConfirmReservation,
            confirm(made.order_id),
        )
    ).reservations
    assert sold.update_time.ToDatetime() > made.update_time.ToDatetime()
    request = reserving.GetReservationRequest(reservation_id=made.reservation_id)
    assert (await ask(clients.reservations.GetReservation, request)).reservation == sold


async def test_movements_by_occur_time_divide_at_the_bound(clients: Clients) -> None:
    """The lower bound is inclusive, the upper one exclusive, and a nanosecond more rounds up."""
    for sku in ("cup", "jam", "tea"):
        await ask(clients.inventory.ReceiveStock, receive_all("london", {sku: 9}))

    async def listed(**fields: Any) -> list[str]:
        found = await ask(
            clients.inventory.ListStockMovements,
            inventory.ListStockMovementsRequest(**fields),
        )
        return [each.sku for each in found.stock_movements]

    every = (
        await ask(
            clients.inventory.ListStockMovements,
            inventory.ListStockMovementsRequest(),
        )
    ).stock_movements
    bound = every[1].occur_time
    above = timestamp(bound.ToDatetime())
    above.nanos += 1
    assert await listed(occur_time_from=bound) == ["jam", "tea"]
    assert await listed(occur_time_before=bound) == ["cup"]
    assert await listed(occur_time_from=above) == ["tea"]
    assert await listed(occur_time_before=above) == ["cup", "jam"]
    later = timestamp(bound.ToDatetime() + timedelta(microseconds=1))
    assert await listed(occur_time_from=bound, occur_time_before=later) == ["jam"]
