"""What is packed anew while its label is being sold."""

import asyncio

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.client import ask
from chassis.errors import Deferred
from tests.integration.shipping.peers import CountingCarrier
from tests.integration.shipping.requests import PARCEL, Shipping, create, rows, told
from tests.support import Eventually


async def test_a_label_and_its_shipment_are_of_the_same_parcels(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier, eventually: Eventually
) -> None:
    """The carrier is selling a label for two parcels when the fulfilment comes with one: answer, record and event have the two that the
    label has pages for, and the later ask is answered with the same.
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
    bought = (await first).shipment
    assert (bought.status, list(bought.parcels)) == (shipping_pb2.SHIPMENT_STATUS_CREATED, [PARCEL, PARCEL])
    assert (await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment_id))).shipment == bought
    [event] = await told(engine)
    assert event.shipment == bought  # type: ignore[attr-defined]  # every event has one
    label = await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment_id))
    assert b"parcel 2 of 2" in label.content
    assert (await ask(shipping.CreateShipment, new)).shipment == bought
