"""Each fulfilment gets one label and one event, for any number of requests of any callers."""

import asyncio
import io
from itertools import permutations

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from pypdf import PdfReader
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Exists, Invalid
from shipping_svc.app import Operations
from shipping_svc.model.records import Parcel
from tests.integration.shipping.creations import key_of
from tests.integration.shipping.peers import CountingCarrier
from tests.integration.shipping.requests import (
    PARCEL,
    Shipping,
    create,
    fulfillment_ready,
    published_events,
    published_types,
    rows,
    the_one,
)
from tests.unit.shipping.samples import changed


async def test_bought_label_is_published(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """The shipment goes from pending to created: the answer, the event and the history agree, and
    the label is stored.
    """
    request = create()
    shipment = (await ask(shipping.CreateShipment, request)).shipment
    assert shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED
    assert (shipment.fulfillment_id, shipment.order_id, shipment.warehouse_id) == (
        request.fulfillment_id,
        request.order_id,
        "W1",
    )
    assert (shipment.carrier, shipment.version, shipment.status_reason) == (
        "sandbox",
        2,
        "LABEL_BOUGHT",
    )
    assert list(shipment.parcels) == list(request.parcels)
    assert shipment.tracking_number.startswith("SBX")
    assert not shipment.HasField("deliver_time")
    assert carrier.calls == {key_of(shipment): 1}
    [event] = await published_events(engine)
    assert (event.DESCRIPTOR.name, event.shipment) == ("ShipmentCreated", shipment)
    steps = await rows(
        engine,
        "select version, old::text, new::text, reason, actor, cause from history order by version",
    )
    assert [tuple(step) for step in steps] == [
        (1, None, "pending", "FULFILLMENT_READY", "shipping", request.request_id),
        (2, "pending", "created", "LABEL_BOUGHT", "sandbox", key_of(shipment)),
    ]
    label = await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment.shipment_id))
    assert label.content_type == "application/pdf"
    page = PdfReader(io.BytesIO(label.content)).pages[0].extract_text()
    assert "Ada Lovelace" in page
    assert shipment.tracking_number in page


async def test_call_and_event_at_once_buy_one_label(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """20 calls and events come at once, repeats and others: one shipment, one purchase, one
    ShipmentCreated, one answer.
    """
    request = create()
    calls = [
        ask(
            shipping.CreateShipment,
            create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
        )
        for _ in range(8)
    ]
    repeats = [ask(shipping.CreateShipment, request) for _ in range(4)]
    events = [
        operations.creation.create_shipments(
            [
                fulfillment_ready(request),
                fulfillment_ready(request, "the same"),
                fulfillment_ready(request, "the same"),
            ]
        )
        for _ in range(8)
    ]
    answers, outcomes = await asyncio.gather(
        asyncio.gather(*calls, *repeats), asyncio.gather(*events)
    )
    shipment = await the_one(shipping)
    assert all(answer.shipment == shipment for answer in answers)
    assert all(isinstance(outcome, Done) for several in outcomes for outcome in several)
    assert set(carrier.calls) == {key_of(shipment)}
    assert await published_types(engine) == ["ShipmentCreated"]
    assert [count for (count,) in await rows(engine, "select count(*) from labels")] == [1]


async def test_a_set_of_events_is_two_writes(
    operations: Operations, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """One transaction stores all pending shipments, another all results; two events of one
    fulfilment are one shipment.
    """
    requests = [create() for _ in range(30)]
    outcomes = await operations.creation.create_shipments(
        [*map(fulfillment_ready, requests), fulfillment_ready(requests[0])]
    )
    assert [outcome.record.status for outcome in outcomes if isinstance(outcome, Done)] == [
        "pending"
    ] * 31
    # xmin is the transaction that inserted a row
    counts = "select new::text, count(*), count(distinct xmin::text) from history group by new"
    transactions = await rows(engine, counts)
    assert {tuple(row) for row in transactions} == {("pending", 30, 1), ("created", 30, 1)}
    assert len(carrier.calls) == 30
    assert await published_types(engine) == ["ShipmentCreated"] * 30


async def test_call_and_event_in_any_order_buy_one_label(
    shipping: Shipping, operations: Operations, engine: AsyncEngine
) -> None:
    """The event comes after the call, or the call after the event, and each repeats weeks later:
    all succeed, and the shipment has no further change.
    """
    first, second = create(), create()
    await ask(shipping.CreateShipment, first)
    await operations.creation.create_shipments([fulfillment_ready(second, "e")])
    async with engine.begin() as connection:
        await connection.execute(text("delete from idempotency_keys"))
    before = await rows(engine, "select * from history order by shipment_id, version")
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments(
            [fulfillment_ready(first), fulfillment_ready(second, "e")]
        )
    ] == [Done, Done]
    for request in (first, second):
        again = await ask(shipping.CreateShipment, request)
        assert again.shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED
    assert await rows(engine, "select * from history order by shipment_id, version") == before
    assert await published_types(engine) == ["ShipmentCreated", "ShipmentCreated"]


@pytest.mark.parametrize("order", list(permutations(["call", "event", "old"])))
async def test_shipment_without_label_takes_latest_parcels(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    order: tuple[str, ...],
) -> None:
    """The fulfilment is packed again while the carrier is unreachable, and both versions are
    requested, by call and by event, in every order. The newest parcels stay, and the label is
    bought for them.

    After the label is bought, the parcels do not change.
    """
    old = create(fulfillment_version=7, parcels=[PARCEL, PARCEL])
    about = {"fulfillment_id": old.fulfillment_id, "order_id": old.order_id}
    new = create(fulfillment_version=10, **about)
    event = fulfillment_ready(new)
    event = changed(
        event,
        fulfillment_version=10,
        parcels=(Parcel(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100),),
    )
    carrier.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    for name in order:
        if name == "event":
            await operations.creation.create_shipments([event])
        else:
            with pytest.raises(Deferred):
                await ask(shipping.CreateShipment, new if name == "call" else old)
    waiting = await the_one(shipping)
    assert (waiting.status, list(waiting.parcels)) == (
        shipping_pb2.SHIPMENT_STATUS_PENDING,
        [PARCEL],
    )
    assert waiting.version == (2 if order[0] == "old" else 1)
    carrier.failure = None
    bought = (await ask(shipping.CreateShipment, new)).shipment
    assert (bought.status, list(bought.parcels)) == (shipping_pb2.SHIPMENT_STATUS_CREATED, [PARCEL])
    later = create(fulfillment_version=13, parcels=[PARCEL, PARCEL, PARCEL], **about)
    assert (await ask(shipping.CreateShipment, later)).shipment == bought
    assert [count for (count,) in await rows(engine, "select count(*) from parcels")] == [1]


async def test_request_id_with_another_body_is_refused(shipping: Shipping) -> None:
    """The same request_id with another body is refused, and the same body is answered with the
    shipment as it stands.
    """
    request = create()
    shipment = (await ask(shipping.CreateShipment, request)).shipment
    with pytest.raises(Invalid) as refused:
        await ask(shipping.CreateShipment, create(request_id=request.request_id))
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert (await ask(shipping.CreateShipment, request)).shipment == shipment


async def test_other_orders_fulfilment_is_not_shipped(
    shipping: Shipping, engine: AsyncEngine
) -> None:
    """A fulfilment that has a shipment of another order is refused, by call and by event."""
    shipment = (await ask(shipping.CreateShipment, create())).shipment
    with pytest.raises(Exists) as refused:
        await ask(shipping.CreateShipment, create(fulfillment_id=shipment.fulfillment_id))
    assert (refused.value.reason, refused.value.metadata) == (
        "SHIPMENT_ALREADY_EXISTS",
        {"shipment_id": shipment.shipment_id},
    )
