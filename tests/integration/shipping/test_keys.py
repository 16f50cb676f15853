"""The formats of stored idempotency keys must not change: databases of running systems hold such
keys.
"""

from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Refused
from chassis.values.request_context import request_context
from shipping_svc import tables
from shipping_svc.app import Operations
from tests.integration.keys import stored_keys
from tests.integration.shipping.creations import fulfillment_event
from tests.integration.shipping.peers import CountingCarrier, KnownOrders
from tests.integration.shipping.requests import (
    PARCEL,
    Shipping,
    cancel,
    create,
    handlers_of,
    report,
    rows,
)
from tests.integration.shipping.test_actors import ready, withdrawal

SERVICE = "/ordermesh.shipping.v1.ShippingService"

stored = partial(stored_keys, tables.idempotency_keys)


async def the_id(engine: AsyncEngine, fulfillment_id: str) -> UUID:
    """Returns the id of the fulfilment's shipment."""
    shipments = tables.shipments.c
    query = select(shipments.id).where(shipments.fulfillment_id == UUID(fulfillment_id))
    [row] = await rows(engine, query)
    shipment_id: UUID = row.id
    return shipment_id


async def time_of(engine: AsyncEngine, shipment_id: UUID, reason: str) -> str:
    """Returns the time of the shipment's first change for this reason, as the keys of recalls have
    it.
    """
    history = tables.history.c
    of_shipment = select(history.time).where(history.shipment_id == shipment_id)
    query = of_shipment.where(history.reason == reason).order_by(history.version)
    return str((await rows(engine, query))[0].time.isoformat())


async def make_due(engine: AsyncEngine, tries: str) -> None:
    """Makes the rows of this table due at once."""
    async with engine.begin() as connection:
        past = text(f"update {tries} set try_time = try_time - interval '1 hour'")
        await connection.execute(past)


async def test_requests_and_answers_are_stored_under_their_keys(
    shipping: Shipping,
    engine: AsyncEngine,
) -> None:
    """A request has its own key; an answer of the carrier has the key of its purchase."""
    request = create()
    shipment = (await ask(shipping.CreateShipment, request)).shipment
    reported = report(shipment.tracking_number, "in_transit")
    await ask(shipping.RecordTrackingEvent, reported)
    recalled = cancel(shipment.shipment_id)
    await ask(shipping.CancelShipment, recalled)
    target = UUID(shipment.shipment_id)
    assert await stored(engine, "/") == {
        (
            f"{SERVICE}/CreateShipment:{request.request_id}",
            request_context(request).request_hash,
            target,
        ),
        (
            f"{SERVICE}/RecordTrackingEvent:{reported.request_id}",
            request_context(reported).request_hash,
            target,
        ),
        (
            f"{SERVICE}/CancelShipment:{recalled.request_id}",
            request_context(recalled).request_hash,
            target,
        ),
    }
    time = await time_of(engine, target, "RECALLED")
    assert await stored(engine, "shipment:") == {
        (f"shipment:{target}:label", b"", target),
        (f"shipment:{target}:label:recall:{time}", b"", target),
    }


async def test_label_that_is_not_sold_is_stored_under_a_step(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    orders: KnownOrders,
    carrier: CountingCarrier,
) -> None:
    """A refusal of the carrier and a closed order each add a step to the purchase's key."""
    refused, closed = create(), create()
    orders.addresses[UUID(refused.order_id)] = {"country_code": "AQ"}
    with pytest.raises(Refused):
        await ask(shipping.CreateShipment, refused)
    carrier.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, closed)
    row = {"order_id": closed.order_id, "attempt": 1, "status": "failed", "version": 5}
    async with engine.begin() as connection:
        insertion = tables.closed_orders.insert().values(**row, close_time=datetime.now(UTC))
        await connection.execute(insertion)
    await make_due(engine, "label_tries")
    await operations.labels.buy_pending_labels()
    ids = [await the_id(engine, each.fulfillment_id) for each in (refused, closed)]
    assert await stored(engine, "shipment:") == {
        (f"shipment:{ids[0]}:label:refused", b"", ids[0]),
        (f"shipment:{ids[1]}:label:closed", b"", ids[1]),
    }


async def test_repacked_shipment_has_a_key_for_each_purchase(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
) -> None:
    """The second purchase has its number; the first one is recalled under a key of its own."""
    old = create(fulfillment_version=7)
    about = {"fulfillment_id": old.fulfillment_id, "order_id": old.order_id}
    carrier.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, old)
    carrier.failure = None
    new = create(fulfillment_version=10, parcels=[PARCEL, PARCEL], **about)
    shipment = (await ask(shipping.CreateShipment, new)).shipment
    await make_due(engine, "recall_tries")
    await operations.recalls.retry_open_recalls()
    target = UUID(shipment.shipment_id)
    time = await time_of(engine, target, "REPACKED")
    assert await stored(engine, "shipment:") == {
        (f"shipment:{target}:label:1", b"", target),
        (f"shipment:{target}:label:recall:unanswered:{time}", b"", target),
    }


async def test_ready_and_cancelled_fulfilments_are_stored_under_keys(
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """An event has its own key; a cancellation has a step for the fulfilment's shipment."""
    request, handlers = create(), handlers_of(operations)
    is_ready, is_cancelled = ready(request, 7), fulfillment_event(request, "CANCELLED")
    await handlers[FulfillmentStatusChanged]([is_ready])
    await handlers[FulfillmentStatusChanged]([is_cancelled])
    target = await the_id(engine, request.fulfillment_id)
    assert await stored(engine, is_ready.key) == {(is_ready.key, is_ready.request_hash, target)}
    assert await stored(engine, is_cancelled.key) == {
        (is_cancelled.key, is_cancelled.request_hash, UUID(request.fulfillment_id)),
        (f"{is_cancelled.key}:{target}", is_cancelled.request_hash, target),
    }


async def test_withdrawal_is_stored_under_its_key_and_one_step(
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The step creates the shipment of a fulfilment without one; a void label has a key too."""
    known, unknown, handlers = create(), create(), handlers_of(operations)
    await handlers[FulfillmentStatusChanged]([ready(known, 7)])
    events = [withdrawal(known, 9), withdrawal(unknown, 9)]
    await handlers[FulfillmentLinesChanged](events)
    ids = [await the_id(engine, each.fulfillment_id) for each in (known, unknown)]
    for event, target in zip(events, ids, strict=True):
        step = f"{event.key}:create"
        found = {
            key: (request_hash, id) for key, request_hash, id in await stored(engine, event.key)
        }
        assert found.keys() == {event.key, step}
        assert found[event.key] == (event.request_hash, target)
        assert found[step][0] == event.request_hash
        # the step proposes an id, which a fulfilment with a shipment does not use
        assert (found[step][1] == target) == (event is events[1])
    time = await time_of(engine, ids[0], "FULFILLMENT_WITHDRAWN")
    voided = (f"shipment:{ids[0]}:label:void:{time}", b"", ids[0])
    assert voided in await stored(engine, "shipment:")


async def test_order_event_is_stored_with_a_step_for_each_shipment(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """A cancelled order has the event's key, and each of its shipments a step of it."""
    order_id, event_id = str(uuid4()), uuid4()
    requests = [create(order_id=order_id) for _ in range(2)]
    ids = [UUID((await ask(shipping.CreateShipment, r)).shipment.shipment_id) for r in requests]
    message = OrderStatusChanged(
        order_id=order_id,
        attempt=1,
        order_version=5,
        new_status=order_pb2.ORDER_STATUS_CANCELLED,
    )
    key = f"shipping-test:{event_id}"
    delivery = Delivery(
        event_id=event_id,
        key=key,
        request_hash=event_id.bytes,
        message=message,
        time=datetime.now(UTC),
    )
    await handlers_of(operations)[OrderStatusChanged]([delivery])
    assert await stored(engine, key) == {
        (key, event_id.bytes, UUID(order_id)),
        *((f"{key}:{shipment_id}", event_id.bytes, shipment_id) for shipment_id in ids),
    }
