"""Each fulfilment gets one label and one event, for any number of requests, for any callers, and
through crashes.
"""

import asyncio
import io
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from pypdf import PdfReader
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Exists, Invalid, NotFound, Refused
from chassis.write.database import Database
from shipping_svc.app import Operations
from shipping_svc.model.records import Parcel
from shipping_svc.operations.carrier_calls import Timeouts
from shipping_svc.providers import pdf
from shipping_svc.providers.pdf import FONTS
from tests.integration.shipping.peers import CountingCarrier, Crash, KnownOrders
from tests.integration.shipping.requests import (
    PARCEL,
    Shipping,
    consumers_of,
    create,
    fulfillment_ready,
    order_closed,
    published_events,
    published_types,
    rows,
)
from tests.sample.contract_events import fulfillment
from tests.support import Eventually
from tests.unit.shipping.samples import changed


def key_of(shipment: shipping_pb2.Shipment) -> str:
    return f"shipment:{shipment.shipment_id}:label"


async def the_one(shipping: Shipping) -> shipping_pb2.Shipment:
    [shipment] = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    return shipment


async def counted(engine: AsyncEngine) -> dict[str, int]:
    """Returns the number of shipments of each status."""
    return dict(
        map(
            tuple,
            await rows(engine, "select status::text, count(*) from shipments group by status"),
        )
    )


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
    # every event has one
    assert (event.DESCRIPTOR.name, event.shipment) == ("ShipmentCreated", shipment)  # type: ignore[attr-defined]
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
    """One transaction stores all intents, another all results; two events of one fulfilment are one
    shipment.
    """
    requests = [create() for _ in range(30)]
    outcomes = await operations.creation.create_shipments(
        [*map(fulfillment_ready, requests), fulfillment_ready(requests[0])]
    )
    assert [outcome.record.status for outcome in outcomes if isinstance(outcome, Done)] == [
        "pending"
    ] * 31
    times = await rows(
        engine, "select new::text, count(*), count(distinct time) from history group by new"
    )
    assert {tuple(row) for row in times} == {("pending", 30, 1), ("created", 30, 1)}
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


# --- crashes and absences


async def test_crash_before_the_sale_is_repaired_by_the_sweeper(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process is killed after the intent, and the shipment stays pending. The sweeper buys its
    label, under the key that the killed process would have used.
    """
    carrier.failure = Crash()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(create())])
    carrier.failure = None
    pending = await the_one(shipping)
    assert (pending.status, pending.version) == (shipping_pb2.SHIPMENT_STATUS_PENDING, 1)
    assert not pending.HasField("tracking_number")
    await until_created(shipping, operations, eventually)
    assert carrier.calls == {key_of(pending): 2}
    assert await published_types(engine) == ["ShipmentCreated"]
    assert await rows(engine, "select * from label_tries") == []


async def until_created(shipping: Shipping, operations: Operations, eventually: Eventually) -> None:
    async def created() -> bool:
        await operations.labels.buy_pending_labels()
        return (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_CREATED

    await eventually(created)


async def test_crash_after_the_sale_buys_no_second_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process is killed between the carrier's sale and its storage: the next try uses the same
    key, and gets the label that was sold.
    """
    carrier.after_sale = Crash()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(create())])
    carrier.after_sale = None
    pending = await the_one(shipping)
    assert pending.status == shipping_pb2.SHIPMENT_STATUS_PENDING
    await until_created(shipping, operations, eventually)
    assert carrier.calls == {key_of(pending): 2}
    assert [count for (count,) in await rows(engine, "select count(*) from labels")] == [1]
    assert await published_types(engine) == ["ShipmentCreated"]


AWAY = Deferred("DEPENDENCY_UNAVAILABLE", "away", peer="somebody")


@pytest.mark.parametrize("peer", ["orders", "carrier"])
async def test_shipment_waits_while_peer_is_unavailable(
    peer: str,
    shipping: Shipping,
    operations: Operations,
    orders: KnownOrders,
    carrier: CountingCarrier,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """With the order service or the carrier unreachable, the call gets DEPENDENCY_UNAVAILABLE, the
    event is done, and the sweeper finishes later.
    """
    stub = orders if peer == "orders" else carrier
    stub.failure = AWAY
    request = create()
    with pytest.raises(Deferred) as deferred:
        await ask(shipping.CreateShipment, request)
    assert deferred.value.reason == "DEPENDENCY_UNAVAILABLE"
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments([fulfillment_ready(request)])
    ] == [Done]
    assert (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_PENDING
    stub.failure = None
    await until_created(shipping, operations, eventually)
    assert await published_types(engine) == ["ShipmentCreated"]
    assert len(set(carrier.calls)) == 1


async def test_repeated_call_buys_the_label_at_once(
    shipping: Shipping, carrier: CountingCarrier
) -> None:
    """A repeat with the same request_id buys the label without the sweeper."""
    request = create()
    carrier.failure = AWAY
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, request)
    carrier.failure = None
    assert (
        await ask(shipping.CreateShipment, request)
    ).shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED


async def test_shipment_of_unknown_order_waits(
    shipping: Shipping, operations: Operations, orders: KnownOrders, eventually: Eventually
) -> None:
    """The caller gets ORDER_NOT_FOUND, and the shipment stays pending: a peer whose data are behind
    must not end shipments.
    """
    orders.failure = NotFound("ORDER_NOT_FOUND", "no such order", order_id="x")
    with pytest.raises(NotFound) as unknown:
        await ask(shipping.CreateShipment, create())
    assert unknown.value.reason == "ORDER_NOT_FOUND"
    assert (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_PENDING
    orders.failure = None
    await until_created(shipping, operations, eventually)


async def test_hanging_carrier_blocks_no_caller(
    database: Database, orders: KnownOrders, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """A set with slow sales ends at its time limit: sales that came in time are stored, and the
    sweeper makes the others.
    """
    operations = Operations(
        database=database,
        orders=orders,
        carrier=carrier,
        timeouts=Timeouts(label_timeout_s=2.0, labels_at_once_max=4),
    )
    requests = [create() for _ in range(6)]
    orders.addresses = {
        UUID(request.order_id): {"postal_code": "SANDBOX-SLOW"} for request in requests[:2]
    }
    async with asyncio.timeout(20):
        outcomes = await operations.creation.create_shipments(
            [fulfillment_ready(request) for request in requests]
        )
    assert [type(outcome) for outcome in outcomes] == [Done] * 6
    assert await counted(engine) == {"pending": 2, "created": 4}


async def test_defect_of_one_sale_leaves_other_shipments(
    operations: Operations, orders: KnownOrders, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """An adapter's bug concerns one shipment of a set. The others get their labels, and the event
    is done, because the sweeper tries again.
    """
    requests = [create() for _ in range(3)]
    orders.addresses[UUID(requests[1].order_id)] = {"postal_code": "BUG"}
    carrier.bugs["BUG"] = KeyError("a bug")
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments(
            [fulfillment_ready(r) for r in requests]
        )
    ] == [Done] * 3
    assert await counted(engine) == {"pending": 1, "created": 2}


async def test_concurrent_sweepers_buy_each_label_once(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """Three replicas sweep after an outage: each shipment gets one label and one event, and the
    carrier gets one call for each.
    """
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(create()) for _ in range(120)])
    carrier.failure = None
    carrier.calls.clear()
    async with engine.begin() as connection:
        await connection.execute(
            text("update label_tries set try_time = try_time - interval '1 hour'")
        )
    replicas = [
        Operations(database=database, orders=orders, carrier=carrier, timeouts=Timeouts(retry_s=60))
        for _ in range(3)
    ]
    await asyncio.gather(*(replica.labels.buy_pending_labels() for replica in replicas))
    assert await rows(engine, "select * from label_tries") == []
    assert await published_types(engine) == ["ShipmentCreated"] * 120
    assert set(carrier.calls.values()) == {1}


# --- refusals


async def test_the_carriers_refusal_is_final(
    shipping: Shipping, operations: Operations, orders: KnownOrders, engine: AsyncEngine
) -> None:
    """The answer is CARRIER_REFUSED with the carrier's code, now and at every later request. The
    failure is published, and there is no label.
    """
    request = create()
    orders.addresses[UUID(request.order_id)] = {"country_code": "AQ"}
    for again in (
        request,
        request,
        create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
    ):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert refused.value.reason == "CARRIER_REFUSED"
        assert refused.value.metadata["carrier_code"] == "DESTINATION_NOT_SERVED"
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "CARRIER_REFUSED",
    )
    assert failed.carrier_code == "DESTINATION_NOT_SERVED"
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments([fulfillment_ready(request)])
    ] == [Done]
    assert await published_types(engine) == ["ShipmentStatusChanged"]
    with pytest.raises(Refused) as no_label:
        await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=failed.shipment_id))
    assert (no_label.value.reason, no_label.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "failed", "allowed": ""},
    )


@pytest.mark.parametrize(
    ("locality", "scripts", "installed", "advised"),
    [
        ("القاهرة", "ARABIC", True, False),
        ("القاهرة", "ARABIC", False, False),
        ("𠮷野家", "CJK", True, False),
        ("서울", "HANGUL", False, True),
        ("서울 القاهرة", "ARABIC, HANGUL", False, False),
    ],
)
async def test_unprintable_recipient_buys_no_label(
    shipping: Shipping,
    orders: KnownOrders,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    locality: str,
    scripts: str,
    installed: bool,
    advised: bool,
) -> None:
    """The answer is LABEL_NOT_PRINTABLE with the scripts and the advice, now and at every later
    request. The advice names the extra `cjk` only where it is missing and prints all of them.

    The failure is published, and no label is bought.
    """
    if not installed:
        monkeypatch.setattr(pdf, "FONTS", (FONTS[0], replace(FONTS[1], package="not_installed")))
    request = create()
    orders.addresses[UUID(request.order_id)] = {"locality": locality}
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, request)
        assert (refused.value.reason, refused.value.metadata["scripts"]) == (
            "LABEL_NOT_PRINTABLE",
            scripts,
        )
        assert ("Install the extra `cjk`" in refused.value.message) is advised
        assert ("Latin, Greek or Cyrillic" in refused.value.message) is not advised
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "LABEL_NOT_PRINTABLE",
    )
    assert (failed.carrier_code, failed.tracking_number) == (scripts, "")
    assert await published_types(engine) == ["ShipmentStatusChanged"]


async def test_closed_order_gets_no_shipment(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """The call is answered with ORDER_CLOSED and the event is skipped; no shipment is stored and no
    label bought. Another order of the same set is shipped.
    """
    request, other = create(), create()
    await operations.closing.close_orders([order_closed(request.order_id)])
    with pytest.raises(Refused) as refused:
        await ask(shipping.CreateShipment, request)
    assert (refused.value.reason, refused.value.metadata) == (
        "ORDER_CLOSED",
        {"order_id": request.order_id},
    )
    outcomes = await operations.creation.create_shipments(
        [fulfillment_ready(request), fulfillment_ready(other)]
    )
    assert [outcome.record is None for outcome in outcomes if isinstance(outcome, Done)] == [
        True,
        False,
    ]
    assert (await the_one(shipping)).order_id == other.order_id
    assert len(carrier.calls) == 1


async def test_order_closed_before_label_gets_none(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """A shipment that waits for its carrier when its order closes fails with ORDER_CLOSED; the
    carrier is not called again.
    """
    request = create()
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(request)])
    carrier.failure = None
    calls = carrier.calls.total()
    await operations.closing.close_orders([order_closed(request.order_id)])
    with pytest.raises(Refused) as refused:
        await ask(shipping.CreateShipment, request)
    assert refused.value.reason == "ORDER_CLOSED"
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "ORDER_CLOSED",
    )
    assert not failed.HasField("carrier_code")
    assert carrier.calls.total() == calls


async def test_bought_label_stays_after_order_closes(
    shipping: Shipping, operations: Operations
) -> None:
    """A request for the shipment of an order that closed later returns it, recalled."""
    request = create()
    shipment = (await ask(shipping.CreateShipment, request)).shipment
    await operations.closing.close_orders([order_closed(request.order_id)])
    again = (
        await ask(
            shipping.CreateShipment,
            create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
        )
    ).shipment
    assert (again.shipment_id, again.status) == (
        shipment.shipment_id,
        shipping_pb2.SHIPMENT_STATUS_VOIDED,
    )


async def test_retried_order_is_shipped(
    shipping: Shipping, operations: Operations, engine: AsyncEngine
) -> None:
    """An order is closed for an attempt, and events may arrive in any order, and twice: the attempt
    after the last closed one is shipped.
    """
    order = str(uuid4())
    closings = [order_closed(order, 1, 3, "failed"), order_closed(order, 2, 7, "failed")]
    for command in (closings[1], closings[0], closings[1]):
        assert [type(outcome) for outcome in await operations.closing.close_orders([command])] == [
            Done
        ]
    with pytest.raises(Refused):
        await ask(shipping.CreateShipment, create(order_id=order, attempt=2))
    shipment = (await ask(shipping.CreateShipment, create(order_id=order, attempt=3))).shipment
    assert shipment.attempt == 3
    assert [
        tuple(row) for row in await rows(engine, "select attempt, version from closed_orders")
    ] == [(2, 7)]


async def test_sweeper_finishes_after_a_cancelled_call(
    shipping: Shipping,
    operations: Operations,
    orders: KnownOrders,
    carrier: CountingCarrier,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """The caller cancels during the sale: the shipment stays pending, and gets its label later."""
    request = create()
    orders.addresses[UUID(request.order_id)] = {"postal_code": "SANDBOX-SLOW"}
    call = asyncio.create_task(ask(shipping.CreateShipment, request))
    await eventually(lambda: carrier.calls)
    call.cancel()
    await asyncio.wait([call])
    orders.addresses.clear()
    await until_created(shipping, operations, eventually)
    assert await published_types(engine) == ["ShipmentCreated"]


def fulfillment_event(
    request: api.CreateShipmentRequest, status: str
) -> Delivery[FulfillmentStatusChanged]:
    """Returns the event that the request's fulfilment has this status."""
    event_id = uuid4()
    fulfilled = fulfillment(fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{status}"))
    fulfilled.order_id, fulfilled.fulfillment_id = request.order_id, request.fulfillment_id
    message = FulfillmentStatusChanged(fulfillment=fulfilled, new_status=fulfilled.status)
    return Delivery(
        event_id=event_id,
        key=f"shipping-test:{event_id}",
        request_hash=event_id.bytes,
        message=message,
        time=datetime.now(UTC),
    )


async def stored(engine: AsyncEngine) -> list[int]:
    """Returns the numbers of shipments and of closed fulfilments."""
    return [
        n
        for (n,) in await rows(
            engine,
            "select count(*) from shipments union all select count(*) from closed_fulfillments",
        )
    ]


async def test_event_of_missing_order_leaves_no_record(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """An event of a fulfilment whose order does not exist makes neither a shipment nor a tombstone;
    the others of its set do.

    The set makes one call to the order service, and none about an order that shipping has stored.
    """
    forged, cancelled, true = create(), create(), create()
    orders.missing = {UUID(forged.order_id), UUID(cancelled.order_id)}
    consumers = consumers_of(operations)
    events = [
        fulfillment_event(forged, "READY"),
        fulfillment_event(cancelled, "CANCELLED"),
        fulfillment_event(true, "READY"),
        fulfillment_event(forged, "PICKING"),
    ]
    outcomes = await consumers.fulfillment_status_changed(events)
    assert [
        outcome.reason if isinstance(outcome, NotFound) else type(outcome) for outcome in outcomes
    ] == [
        "ORDER_NOT_FOUND",
        "ORDER_NOT_FOUND",
        Done,
        "ORDER_NOT_FOUND",
    ]
    assert await stored(engine) == [1, 0]
    assert orders.asked_for == [{UUID(each.order_id) for each in (forged, cancelled, true)}]
    assert isinstance(
        (await consumers.fulfillment_status_changed([fulfillment_event(true, "CANCELLED")]))[0],
        Done,
    )
    assert len(orders.asked_for) == 1


async def test_withdrawal_of_missing_order_leaves_no_record(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """A withdrawn fulfilment of an unknown order makes no shipment; one of a known order does."""
    forged, true = create(), create()
    orders.missing = {UUID(forged.order_id)}
    events = []
    for request in (forged, true):
        of = fulfillment_event(request, "READY")
        of.message.fulfillment.withdraw_reason = "UNITS_CUT"
        message = FulfillmentLinesChanged(fulfillment=of.message.fulfillment, reason="WITHDRAWN")
        events.append(
            Delivery(
                event_id=of.event_id,
                key=of.key,
                request_hash=of.request_hash,
                message=message,
                time=of.time,
            )
        )
    refused, done = await consumers_of(operations).fulfillment_lines_changed(events)
    assert isinstance(refused, NotFound)
    assert refused.reason == "ORDER_NOT_FOUND"
    assert isinstance(done, Done)
    assert await stored(engine) == [1, 0]


async def test_event_waits_while_order_service_is_down(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """With the order service unreachable, an event about a new order is deferred, and none fails. A
    status that shipping ignores does not wait.
    """
    request, other = create(), create()
    orders.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    consumers = consumers_of(operations)
    waiting, done = await consumers.fulfillment_status_changed(
        [fulfillment_event(request, "READY"), fulfillment_event(other, "PICKING")]
    )
    assert isinstance(waiting, Deferred)
    assert isinstance(done, Done)
    assert await stored(engine) == [0, 0]
    orders.failure = None
    [after] = await consumers.fulfillment_status_changed([fulfillment_event(request, "READY")])
    assert isinstance(after, Done)
    assert await stored(engine) == [1, 0]
