"""The formats of stored idempotency keys stay: databases of running systems hold such keys."""

from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.request_context import request_context
from tests.integration.keys import stored_keys
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.events import (
    CONFIRMED,
    PENDING,
    WORK,
    delivery,
    fulfillment_status_changed,
    inspected,
    items_cancelled,
    order_status_changed,
)
from tests.integration.warehouse.requests import as_stored, attempt, confirm, receive, reserve
from warehouse_svc import consumers
from warehouse_svc.app import Operations
from warehouse_svc.tables import idempotency_keys, movements

stored = partial(stored_keys, idempotency_keys)


async def reserved_order(clients: Clients, units: int = 2) -> str:
    """Returns an order with this number of units of tea."""
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    return (await ask(clients.reservations.ReserveStock, reserve(("tea", units)))).order_id


async def sent(clients: Clients, operations: Operations) -> str:
    """Returns an order whose two units of tea have left London."""
    order_id = await reserved_order(clients)
    await ask(clients.reservations.ConfirmReservation, confirm(order_id))
    shipped: Any = delivery(
        fulfillment_status_changed(
            UUID(order_id), "london", WORK.FULFILLMENT_STATUS_SHIPPED, {1: 2}
        )
    )
    await consumers.handlers(operations.writer)[FulfillmentStatusChanged]([shipped])
    return order_id


async def test_request_about_stock_is_stored_under_its_id(
    clients: Clients,
    engine: AsyncEngine,
) -> None:
    """The key is the method and the request_id, and the target is the request_id."""
    received = receive(tea=3)
    await ask(clients.inventory.ReceiveStock, received)
    adjusted = inventory.AdjustStockRequest(
        request_id=str(uuid4()), warehouse_id="london", sku="tea", delta=1
    )
    await ask(clients.inventory.AdjustStock, adjusted)
    for method, request in (("ReceiveStock", received), ("AdjustStock", adjusted)):
        key = f"/ordermesh.warehouse.v1.InventoryService/{method}:{request.request_id}"
        row = (key, request_context(request).request_hash, UUID(request.request_id))
        assert await stored(engine, key) == {row}


@pytest.mark.parametrize(
    ("method", "units"), [("RestockItem", "restocked"), ("MarkDamaged", "damaged")]
)
async def test_request_about_return_is_stored_under_its_id(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
    method: str,
    units: str,
) -> None:
    """The key is the method and the request_id, and the target is the order."""
    order_id = await sent(clients, operations)
    request = getattr(inventory, f"{method}Request")(
        request_id=str(uuid4()),
        warehouse_id="london",
        source_id=str(uuid4()),
        order_id=order_id,
        line_number=1,
        **{f"{units}_quantity": 1},
    )
    await ask(getattr(clients.inventory, method), request)
    key = f"/ordermesh.warehouse.v1.InventoryService/{method}:{request.request_id}"
    assert await stored(engine, key) == {
        (key, request_context(request).request_hash, UUID(order_id))
    }


async def test_renewal_is_stored_under_generation_and_end(
    clients: Clients,
    engine: AsyncEngine,
) -> None:
    """The repeat's key has the generation and the end of the reservation that it renews.

    The target is the first order: neither the request hash nor the target depends on the order_id
    of the repeat.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    request = reserve(("tea", 2))
    await ask(clients.reservations.ReserveStock, request)
    async with engine.begin() as connection:
        await connection.execute(text("update reservations set expire_time = create_time"))
    target = UUID(request.order_id)
    [first] = (await as_stored(engine)).attempt_reservations(target)
    request.order_id = str(uuid4())
    await ask(clients.reservations.ReserveStock, request)
    context = request_context(request, leave_out=["order_id"])
    assert context.key == (
        f"/ordermesh.warehouse.v1.ReservationService/ReserveStock:{request.request_id}"
    )
    assert await stored(engine, context.key) == {
        (context.key, context.request_hash, target),
        (f"{context.key}:1:{first.expire_time.isoformat()}", context.request_hash, target),
    }


async def test_request_about_attempts_is_stored_under_its_id(
    clients: Clients,
    engine: AsyncEngine,
) -> None:
    """The key is the method and the request_id; in a batch each order adds its id.

    The target is the order.
    """
    one, other = [await reserved_order(clients) for _ in range(2)]
    for method, orders in (
        ("ConfirmReservation", [one]),
        ("BatchConfirmReservations", [one, other]),
        ("ReleaseReservation", [one]),
        ("BatchReleaseReservations", [one, other]),
        ("ReplaceSpoiledUnits", [one]),
    ):
        fields: dict[str, Any] = (
            {"order_attempts": [attempt(each) for each in orders]}
            if method.startswith("Batch")
            else {"order_attempt": attempt(one)}
        )
        if method == "ReplaceSpoiledUnits":
            line = reserving.SpoiledLine(line_number=1, spoiled_quantity=1)
            fields |= {"warehouse_id": "london", "lines": [line]}
        request = getattr(reserving, f"{method}Request")(request_id=str(uuid4()), **fields)
        await ask(getattr(clients.reservations, method), request)
        key = f"/ordermesh.warehouse.v1.ReservationService/{method}:{request.request_id}"
        steps = [f":{each}" for each in orders] if method.startswith("Batch") else [""]
        assert await stored(engine, key) == {
            (f"{key}{step}", request_context(request).request_hash, UUID(order_id))
            for step, order_id in zip(steps, orders, strict=True)
        }


async def test_event_is_stored_under_its_consumer_and_id(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The key is the consumer and the event id, the hash is the event's, and the target is the
    order.
    """
    order_id = UUID(await reserved_order(clients, units=3))
    reservations = (await as_stored(engine)).attempt_reservations(order_id)
    events: list[Message] = [
        items_cancelled(order_id, {1: 2}, reservations, PENDING),
        order_status_changed(order_id, PENDING, CONFIRMED),
        fulfillment_status_changed(order_id, "london", WORK.FULFILLMENT_STATUS_SHIPPED, {1: 2}),
        inspected(order_id, uuid4(), "london", {1: (1, 1)}),
    ]
    deliveries = [delivery(each) for each in events]
    handlers = consumers.handlers(operations.writer)
    for each in deliveries:
        await handlers[type(each.message)]([each])
    assert await stored(engine, "warehouse-test:") == {
        (f"warehouse-test:{each.event_id}", each.request_hash, order_id) for each in deliveries
    }


async def test_expiry_is_stored_under_an_id_of_its_own(
    clients: Clients,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The key has the id that the ledger names as the cause, and the target is the order."""
    order_id = await reserved_order(clients)
    async with engine.begin() as connection:
        await connection.execute(text("update reservations set expire_time = create_time"))
    assert await operations.reservations.expire_reservations() == 1
    async with engine.connect() as connection:
        query = select(movements.c.cause).where(movements.c.kind == "expire")
        [cause] = (await connection.execute(query)).scalars()
    assert UUID(cause).version == 7
    assert await stored(engine, "warehouse.expiry:") == {
        (f"warehouse.expiry:{cause}", b"", UUID(order_id))
    }
