"""Recalls by a call, through crashes and outages."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Failure, Invalid, NotFound, Refused, Stale
from chassis.write.database import Database
from shipping_svc.app import Operations
from shipping_svc.operations.carrier_calls import Timeouts
from tests.integration.shipping.peers import AWAY, CountingCarrier, Crash, KnownOrders
from tests.integration.shipping.recalls import (
    S,
    cancelled,
    created,
    now,
    open_recalls,
    recalls_answered,
    reported,
)
from tests.integration.shipping.requests import (
    Shipping,
    cancel,
    create,
    fulfillment_ready,
    order_closed,
    published_events,
    published_types,
    rows,
    the_one,
)
from tests.support import Eventually

TRANSITIONS = "select old::text, new::text, reason, actor from history order by version"


def reports_after_void() -> float:
    value = REGISTRY.get_sample_value("shipping_reports_after_void_total")
    assert value is not None
    return value


async def test_recall_before_the_first_scan_voids_the_label(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """The shipment goes from created to voided: the recall and the void are a version and an event
    each, and the label can no longer be printed.

    Each later report is counted once.
    """
    shipment = await created(shipping)
    voided = await cancelled(shipping, shipment)
    assert (S(voided.status), voided.version, voided.status_reason) == (
        "SHIPMENT_STATUS_VOIDED",
        4,
        "RECALLED",
    )
    assert voided.HasField("recall_time")
    assert voided.tracking_number == shipment.tracking_number
    assert carrier.recalls == {shipment.tracking_number: 1}
    _, recalled, void = await published_events(engine)
    assert (recalled.old_status, recalled.new_status) == (shipment.status, shipment.status)
    assert (recalled.shipment.version, recalled.shipment.recall_time) == (3, voided.recall_time)
    assert void.shipment == voided
    assert (void.old_status, void.new_status) == (shipment.status, voided.status)
    assert [tuple(transition) for transition in await rows(engine, TRANSITIONS)][2:] == [
        ("created", "created", "RECALLED", "staff"),
        ("created", "voided", "RECALLED", "sandbox"),
    ]
    with pytest.raises(Refused) as refused:
        await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment.shipment_id))
    assert refused.value.metadata == {"status": "voided", "allowed": ""}
    counted = reports_after_void()
    contradicted = await reported(shipping, shipment, "delivered")
    assert reports_after_void() == counted + 1
    assert (contradicted.status, contradicted.version) == (voided.status, voided.version + 1)
    assert (contradicted.status_reason, contradicted.contradict_time) == (
        "REPORTED_AFTER_VOID",
        contradicted.update_time,
    )
    assert await reported(shipping, shipment, "delivered") == contradicted
    assert reports_after_void() == counted + 1
    assert await reported(shipping, shipment, "returned_to_sender", 9) == contradicted
    assert reports_after_void() == counted + 2
    assert (await published_events(engine))[-1].shipment == contradicted


@pytest.mark.parametrize("end", ["returned_to_sender", "delivered", "lost"])
async def test_recalled_parcel_in_transit_ends_as_reported(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier, end: str
) -> None:
    """The parcel is recalled, and ends as the carrier reports: returned, lost, or delivered, with
    an event of the delivery.
    """
    shipment = await created(shipping)
    await reported(shipping, shipment, "in_transit")
    recalled = await cancelled(shipping, shipment)
    assert (S(recalled.status), recalled.version) == ("SHIPMENT_STATUS_IN_TRANSIT", 4)
    assert recalled.HasField("recall_time")
    assert await cancelled(shipping, shipment) == recalled, (
        "a repeated recall returns the shipment unchanged"
    )
    ended = await reported(shipping, shipment, end, 5)
    assert (S(ended.status), ended.recall_time) == (
        f"SHIPMENT_STATUS_{end.upper()}",
        recalled.recall_time,
    )
    assert (await published_types(engine)).count("DeliveryConfirmed") == (end == "delivered")
    assert carrier.recalls == {shipment.tracking_number: 1}
    assert await open_recalls(engine) == 0


async def test_a_shipment_without_a_label_fails(
    shipping: Shipping, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """The shipment goes from pending to failed, and no later request buys a label.

    A label that may have been sold is recalled once it is due, because its purchase may still be
    under way.
    """
    carrier.failure = AWAY
    request = create()
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, request)
    carrier.failure = None
    calls = carrier.calls.total()
    failed = await cancelled(shipping, await the_one(shipping))
    assert (S(failed.status), failed.status_reason) == ("SHIPMENT_STATUS_FAILED", "RECALLED")
    assert not failed.HasField("recall_time")
    for again in (
        request,
        create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
    ):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert (refused.value.reason, refused.value.metadata) == (
            "ILLEGAL_TRANSITION",
            {"status": "failed", "allowed": ""},
        )
    assert carrier.calls.total() == calls
    assert not carrier.recalls
    assert await open_recalls(engine) == 1
    assert await published_types(engine) == ["ShipmentStatusChanged"]
    assert await rows(engine, "select * from label_tries") == []


async def test_concurrent_recalls_recall_once(shipping: Shipping, engine: AsyncEngine) -> None:
    """The same request and others come at once: one recall, one void label. After the end another
    request is refused, a repeat is not.
    """
    shipment = await created(shipping)
    request = cancel(shipment.shipment_id)
    others = [cancel(shipment.shipment_id) for _ in range(5)]
    answers = await asyncio.gather(
        *(ask(shipping.CancelShipment, r) for r in [request, request, *others]),
        return_exceptions=True,
    )
    # A caller after the label is void gets the refusal that the shipment has ended.
    assert all(
        isinstance(answer, Refused) and answer.reason == "ILLEGAL_TRANSITION"
        for answer in answers
        if isinstance(answer, Failure)
    )
    voided = await now(shipping, shipment)
    assert (S(voided.status), voided.version) == ("SHIPMENT_STATUS_VOIDED", 4)
    assert await published_types(engine) == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "ShipmentStatusChanged",
    ]
    assert (await ask(shipping.CancelShipment, request)).shipment == voided
    with pytest.raises(Refused) as refused:
        await cancelled(shipping, shipment)
    assert refused.value.metadata == {"status": "voided", "allowed": ""}


async def test_refused_recall_has_its_reason(shipping: Shipping) -> None:
    """An unknown shipment, a stale version, and another body under the same request_id each get
    their reason, and the shipment does not change.
    """
    shipment = await created(shipping)
    with pytest.raises(NotFound) as unknown:
        await ask(shipping.CancelShipment, cancel(str(uuid4())))
    assert unknown.value.reason == "SHIPMENT_NOT_FOUND"
    with pytest.raises(Stale):
        await cancelled(shipping, shipment, expected_version=1)
    assert await now(shipping, shipment) == shipment
    request_id = str(uuid4())
    await cancelled(shipping, shipment, expected_version=2, request_id=request_id)
    with pytest.raises(Invalid) as reused:
        await cancelled(shipping, shipment, request_id=request_id)
    assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_recall_waits_for_an_unreachable_carrier(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The call is answered with the recall as it stands; the sweeper calls the carrier until it
    answers.
    """
    shipment = await created(shipping)
    carrier.failure = AWAY
    recalled = await cancelled(shipping, shipment)
    assert (recalled.status, recalled.version) == (shipment.status, 3)
    assert recalled.HasField("recall_time")
    assert await open_recalls(engine) == 1
    carrier.failure = None
    await recalls_answered(operations, engine, eventually)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"


@pytest.mark.parametrize("trouble", [Crash(), KeyError("a bug")], ids=["crash", "defect"])
async def test_unrecorded_void_label_is_recorded_later(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
    trouble: BaseException,
) -> None:
    """A crash or an error comes between the carrier's answer and the write: the recall is requested
    again under the same key, and published once.
    """
    shipment = await created(shipping)
    carrier.after_recall = trouble
    with suppress(Crash):
        await operations.closing.close_orders([order_closed(shipment.order_id)])
    assert (await now(shipping, shipment)).status == shipment.status
    carrier.after_recall = None
    await recalls_answered(operations, engine, eventually)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"
    assert carrier.recalls == {shipment.tracking_number: 2}
    assert await published_types(engine) == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "ShipmentStatusChanged",
    ]


async def test_hanging_carrier_blocks_no_recall(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    shipping: Shipping,
    engine: AsyncEngine,
) -> None:
    """A recall without an answer ends at its time limit, and the sweeper makes it."""
    shipment = await created(shipping)
    carrier.recall_answer.clear()
    replica = Operations(
        database=database, orders=orders, carrier=carrier, timeouts=Timeouts(label_timeout_s=0.1)
    )
    async with asyncio.timeout(20):
        assert [
            type(outcome)
            for outcome in await replica.closing.close_orders([order_closed(shipment.order_id)])
        ] == [Done]
    assert (await now(shipping, shipment)).HasField("recall_time")
    assert await open_recalls(engine) == 1


async def test_concurrent_sweepers_request_recall_once(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """Three replicas sweep after an outage: every label is void and published once, and the carrier
    gets one request for each.
    """
    requests = [create() for _ in range(60)]
    await operations.creation.create_shipments(list(map(fulfillment_ready, requests)))
    carrier.failure = AWAY
    await operations.closing.close_orders([order_closed(request.order_id) for request in requests])
    carrier.failure = None
    carrier.recalls.clear()
    async with engine.begin() as connection:
        await connection.execute(
            text("update recall_tries set try_time = try_time - interval '1 hour'")
        )
    replicas = [
        Operations(database=database, orders=orders, carrier=carrier, timeouts=Timeouts(retry_s=60))
        for _ in range(3)
    ]
    await asyncio.gather(*(replica.recalls.retry_open_recalls() for replica in replicas))
    assert await open_recalls(engine) == 0
    assert set(carrier.recalls.values()) == {1}
    assert [
        tuple(row)
        for row in await rows(
            engine, "select status::text, count(*) from shipments group by status"
        )
    ] == [("voided", 60)]
    assert (await published_types(engine)).count("ShipmentStatusChanged") == 120
