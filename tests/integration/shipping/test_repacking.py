"""Fulfilments that are packed again during the sale of their label."""

import asyncio
import io
from uuid import UUID

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from pypdf import PdfReader
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Deferred
from shipping_svc.app import Operations
from shipping_svc.model.records import purchase_key
from shipping_svc.providers.sandbox import tracking_number_for
from tests.integration.shipping.peers import CountingCarrier
from tests.integration.shipping.requests import PARCEL, Shipping, create, published_events, rows
from tests.support import Eventually


async def test_label_and_shipment_have_the_same_parcels(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The carrier sells a label for two parcels when a request for one parcel of the same
    fulfilment comes. Record, event and label are of the one parcel.

    The caller of the two gets Deferred, and the label of the two is recalled.
    """
    carrier.sale.clear()
    old = create(fulfillment_version=7, parcels=[PARCEL, PARCEL])
    new = create(fulfillment_version=10, fulfillment_id=old.fulfillment_id, order_id=old.order_id)
    first = asyncio.ensure_future(ask(shipping.CreateShipment, old))
    await eventually(lambda: sum(carrier.calls.values()) == 1)
    [(shipment_id,)] = await rows(engine, "select id::text from shipments")
    carrier.failure = Deferred("DEPENDENCY_UNAVAILABLE")  # the sale goes on, and no other begins
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, new)
    assert len(await rows(engine, "select 1 from history where reason = 'REPACKED'")) == 1
    carrier.sale.set()
    with pytest.raises(Deferred):
        await first
    carrier.failure = None
    bought = (await ask(shipping.CreateShipment, new)).shipment
    assert (bought.status, list(bought.parcels)) == (shipping_pb2.SHIPMENT_STATUS_CREATED, [PARCEL])
    assert (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment_id))
    ).shipment == bought
    [event] = await published_events(engine)
    assert event.shipment == bought
    label = await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment_id))
    assert "parcel 1 of 1" in PdfReader(io.BytesIO(label.content)).pages[0].extract_text()
    assert (await ask(shipping.CreateShipment, old)).shipment == bought

    async def taken_back() -> bool:
        await operations.recalls.retry_open_recalls()
        return not await rows(engine, "select 1 from recall_tries")

    await eventually(taken_back)
    first_sale, its_own = (
        tracking_number_for(purchase_key(UUID(shipment_id), purchase)) for purchase in (0, 1)
    )
    assert (bought.tracking_number, set(carrier.recalls)) == (its_own, {first_sale})
    assert (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment_id))
    ).shipment == bought
