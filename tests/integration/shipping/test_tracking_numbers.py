"""A tracking number names a shipment with its carrier, and only among open shipments: carriers
reuse their numbers.
"""

import asyncio

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import NotFound, Refused
from chassis.write.database import Database
from shipping_svc.app import Operations
from shipping_svc.lifecycle import LIVE, Status
from tests.integration.shipping.conftest import TIMEOUTS
from tests.integration.shipping.peers import CountingCarrier, KnownOrders
from tests.integration.shipping.requests import (
    Shipping,
    create,
    fulfillment_ready,
    published_types,
    report,
    rows,
)

NUMBER = "1Z999"


@pytest.fixture
def others(database: Database, orders: KnownOrders) -> Operations:
    """The same service with another carrier, which sells the same number."""

    async def reported(_: str) -> bool:
        return False

    other = CountingCarrier(reported)
    other.called, other.number = "other", NUMBER
    return Operations(database=database, orders=orders, carrier=other, timeouts=TIMEOUTS)


async def created(shipping: Shipping) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create())).shipment


async def reported(
    shipping: Shipping, status: str, minute: int = 0, **more: str
) -> shipping_pb2.Shipment:
    return (
        await ask(shipping.RecordTrackingEvent, report(NUMBER, status, minute, **more))
    ).shipment


async def test_report_names_carrier_of_shared_number(
    shipping: Shipping, others: Operations, carrier: CountingCarrier
) -> None:
    """Two carriers have sold one number: a report moves only the shipment of the carrier that it
    names.
    """
    carrier.number = NUMBER
    first = await created(shipping)
    [outcome] = await others.creation.create_shipments([fulfillment_ready(create())])
    assert isinstance(outcome, Done)
    second = (await reported(shipping, "in_transit", carrier="other")).shipment_id
    assert second == str(outcome.record.id)
    assert (await reported(shipping, "delivered")).shipment_id == first.shipment_id
    listed = await ask(
        shipping.ListShipments, api.ListShipmentsRequest(carrier="other", tracking_number=NUMBER)
    )
    assert [(each.shipment_id, each.status) for each in listed.shipments] == [
        (second, shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT)
    ]
    tracked = await ask(
        shipping.ListTrackingEvents, api.ListTrackingEventsRequest(shipment_id=second)
    )
    assert [event.carrier for event in tracked.tracking_events] == ["other"]
    with pytest.raises(NotFound):
        await reported(shipping, "lost", carrier="unknown")


async def test_number_sold_twice_fails_second_label(
    shipping: Shipping, operations: Operations, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """The carrier sells the number of an open shipment. The second shipment fails with
    TRACKING_NUMBER_IN_USE, is bought once, and its label is recalled by its purchase. Reports are
    of the first.
    """
    carrier.number = NUMBER
    first = await created(shipping)
    request = create()
    failed_ids = set()
    for again in (
        request,
        request,
        create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
    ):
        with pytest.raises(Refused) as clash:
            await ask(shipping.CreateShipment, again)
        assert clash.value.reason == "TRACKING_NUMBER_IN_USE"
        assert clash.value.metadata["carrier"] == "sandbox"
        failed_ids.add(clash.value.metadata["shipment_id"])
    [failed_id] = failed_ids
    await operations.labels.buy_pending_labels()
    assert sorted(carrier.calls.values()) == [1, 1]
    failed = (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=failed_id))
    ).shipment
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "TRACKING_NUMBER_IN_USE",
    )
    await asyncio.sleep(TIMEOUTS.retry_s)
    await operations.recalls.retry_open_recalls()
    assert list(carrier.recalls) == [f"shipment:{failed.shipment_id}:label"]
    assert await rows(engine, "select * from recall_tries") == []
    assert (await reported(shipping, "delivered")).shipment_id == first.shipment_id
    assert (await published_types(engine)).count("ShipmentCreated") == 1


async def test_number_sold_twice_in_one_set_fails_one(
    operations: Operations, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """The labels of two shipments are bought at once under one number: one shipment is created and
    the other fails, and none is bought again.
    """
    carrier.number = NUMBER
    await operations.creation.create_shipments(
        [fulfillment_ready(create()), fulfillment_ready(create())]
    )
    await operations.labels.buy_pending_labels()
    counted = await rows(engine, "select status::text, reason from shipments order by 1")
    assert [tuple(row) for row in counted] == [
        ("created", "LABEL_BOUGHT"),
        ("failed", "TRACKING_NUMBER_IN_USE"),
    ]
    assert await rows(engine, "select * from label_tries") == []
    assert sorted(carrier.calls.values()) == [1, 1]


async def test_number_reused_after_delivery_names_new(
    shipping: Shipping, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """A year after its delivery the carrier sells the number again: reports are of the new
    shipment, and a repeat of an old report changes neither.
    """
    carrier.number = NUMBER
    old = await created(shipping)
    await reported(shipping, "delivered", 5)
    async with engine.begin() as connection:
        year = (
            "update shipments set create_time = create_time - interval '1 year', update_time ="
            " update_time - interval '1 year'"
        )
        await connection.execute(text(year))
    new = await created(shipping)
    assert (new.tracking_number, new.status) == (NUMBER, shipping_pb2.SHIPMENT_STATUS_CREATED)
    assert (await reported(shipping, "delivered", 5)).shipment_id == old.shipment_id
    assert (await reported(shipping, "in_transit", 7)).shipment_id == new.shipment_id
    delivered = await reported(shipping, "delivered", 9)
    assert (delivered.shipment_id, delivered.status) == (
        new.shipment_id,
        shipping_pb2.SHIPMENT_STATUS_DELIVERED,
    )
    listed = await ask(
        shipping.ListShipments, api.ListShipmentsRequest(carrier="sandbox", tracking_number=NUMBER)
    )
    assert [each.shipment_id for each in listed.shipments] == [new.shipment_id, old.shipment_id]


async def test_recall_of_reused_number_voids_the_new_label(
    shipping: Shipping, operations: Operations, carrier: CountingCarrier
) -> None:
    """The reports of a parcel that was delivered long ago do not count for the parcel that has its
    number now: its label is voided.
    """
    carrier.number = NUMBER
    await created(shipping)
    await reported(shipping, "delivered", 5)
    new = await created(shipping)
    request = api.CancelShipmentRequest(
        request_id=report(NUMBER, "lost").request_id, shipment_id=new.shipment_id
    )
    assert (
        await ask(shipping.CancelShipment, request)
    ).shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED


async def test_live_number_index_holds_live_statuses(engine: AsyncEngine) -> None:
    """The unique index of the migrated database has exactly the statuses of open shipments."""
    [[definition]] = await rows(
        engine,
        "select indexdef from pg_indexes where indexname = 'shipments_live_tracking_number_key'",
    )
    assert {status for status in Status if f"'{status}'" in definition} == LIVE
