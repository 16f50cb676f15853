"""Keys and sequences of a shipment's events."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from shipping_svc import tables
from tests.integration.shipping.requests import Shipping, create, published_events, report
from tests.support import numbered


async def test_events_of_a_shipment_have_gapless_sequences(
    shipping: Shipping, engine: AsyncEngine
) -> None:
    """The shipment's id is the key of its events. Their versions begin at 2, their sequences at 1,
    and none is left out.
    """
    several = [(await ask(shipping.CreateShipment, create())).shipment for _ in range(2)]
    for each in several:
        for minute, status in enumerate(("IN_TRANSIT", "DELIVERED")):
            await ask(
                shipping.RecordTrackingEvent, report(each.tracking_number, status, minute + 1)
            )
    found = await numbered(engine, tables.outbox)
    names = [
        ("ShipmentCreated", 1),
        ("ShipmentStatusChanged", 2),
        ("ShipmentStatusChanged", 3),
        ("DeliveryConfirmed", 4),
    ]
    assert found == {UUID(each.shipment_id): names for each in several}
    first = next(iter(await published_events(engine)))
    assert first.shipment.version == 2
