"""The reading methods over the running server, and the refusals of every method."""

import io
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from pypdf import PdfReader
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Invalid, NotFound, Refused
from shipping_svc import tables
from tests.integration.shipping.peers import CountingCarrier
from tests.integration.shipping.requests import PARCEL, Shipping, create, report


async def created(shipping: Shipping, **more: Any) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create(**more))).shipment


async def test_a_shipment_is_read_as_it_stands(shipping: Shipping) -> None:
    """GetShipment is answered as CreateShipment was; an unknown id is SHIPMENT_NOT_FOUND, in every
    method that takes one.
    """
    shipment = await created(shipping)
    assert (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment.shipment_id))
    ).shipment == shipment
    unknown = str(uuid4())
    for call in (
        ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=unknown)),
        ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=unknown)),
        ask(shipping.ListTrackingEvents, api.ListTrackingEventsRequest(shipment_id=unknown)),
        ask(
            shipping.ListShipmentTransitions,
            api.ListShipmentTransitionsRequest(shipment_id=unknown),
        ),
    ):
        with pytest.raises(NotFound) as refused:
            await call
        assert (refused.value.reason, refused.value.metadata) == (
            "SHIPMENT_NOT_FOUND",
            {"shipment_id": unknown},
        )


async def test_shipments_are_listed_newest_first_by_their_filters(shipping: Shipping) -> None:
    """Shipments are listed by order, by tracking number, by status, and page by page; a token
    belongs to its filter.
    """
    order = str(uuid4())
    several = [await created(shipping, order_id=order) for _ in range(3)] + [
        await created(shipping)
    ]
    delivered = (
        await ask(shipping.RecordTrackingEvent, report(several[3].tracking_number, "delivered"))
    ).shipment

    async def listed(**wanted: Any) -> list[shipping_pb2.Shipment]:
        return list(
            (await ask(shipping.ListShipments, api.ListShipmentsRequest(**wanted))).shipments
        )

    assert await listed() == [delivered, *several[2::-1]]
    assert await listed(order_id=order) == several[2::-1]
    assert await listed(tracking_number=several[1].tracking_number) == [several[1]]
    assert await listed(statuses=[shipping_pb2.SHIPMENT_STATUS_DELIVERED]) == [delivered]
    assert await listed(order_id=order, statuses=[shipping_pb2.SHIPMENT_STATUS_DELIVERED]) == []
    first = await ask(shipping.ListShipments, api.ListShipmentsRequest(order_id=order, page_size=2))
    second = await ask(
        shipping.ListShipments,
        api.ListShipmentsRequest(order_id=order, page_size=2, page_token=first.next_page_token),
    )
    assert [*first.shipments, *second.shipments] == several[2::-1]
    assert not second.next_page_token
    with pytest.raises(Invalid) as refused:
        await listed(page_token=first.next_page_token)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_label_that_is_not_bought_is_refused(
    shipping: Shipping, carrier: CountingCarrier
) -> None:
    """The answer is ILLEGAL_TRANSITION with the shipment's status and the step that it waits
    for.
    """
    carrier.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    with pytest.raises(Deferred):
        await created(shipping)
    [pending] = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    with pytest.raises(Refused) as refused:
        await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=pending.shipment_id))
    assert (refused.value.reason, refused.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "pending", "allowed": "created, failed"},
    )


BAD: list[tuple[dict[str, Any], str]] = [
    ({"request_id": ""}, "request_id"),
    ({"fulfillment_id": "7"}, "fulfillment_id"),
    ({"order_id": ""}, "order_id"),
    ({"attempt": 0}, "attempt"),
    ({"warehouse_id": ""}, "warehouse_id"),
    ({"parcels": []}, "parcels"),
    ({"parcels": [PARCEL] * 101}, "parcels"),
    (
        {
            "parcels": [
                PARCEL,
                shipping_pb2.Parcel(weight_grams=0, length_mm=1, width_mm=1, height_mm=1),
            ]
        },
        "parcels[1].weight_grams",
    ),
]


async def test_bad_request_names_its_fields(shipping: Shipping, subtests: pytest.Subtests) -> None:
    """The answer names each field that breaks its bounds by its path."""
    for bad, field in BAD:
        with subtests.test(field):
            with pytest.raises(Invalid) as refused:
                await created(shipping, **bad)
            assert refused.value.reason == "VALIDATION_FAILED"
            assert [violation.subject for violation in refused.value.violations] == [field]


async def test_a_hundred_parcels_are_one_shipment(shipping: Shipping) -> None:
    """The contract allows a hundred parcels: all of them are answered in their order, and the label
    has a page for each.
    """
    parcels = [
        shipping_pb2.Parcel(weight_grams=n, length_mm=1, width_mm=1, height_mm=1)
        for n in range(1, 101)
    ]
    shipment = await created(shipping, parcels=parcels)
    assert list(shipment.parcels) == parcels
    label = await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment.shipment_id))
    assert len(PdfReader(io.BytesIO(label.content)).pages) == 100


async def test_recipient_is_stored_with_the_label_alone(
    shipping: Shipping, engine: AsyncEngine
) -> None:
    """After a whole shipment, only the table of labels has the recipient's data: no event, no
    history row, no key.
    """
    shipment = await created(shipping)
    await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, "delivered"))
    holders = set()
    async with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            # A row as text has its bytes in hexadecimal: both forms of the name are searched.
            found = await connection.execute(
                text(
                    f"select 1 from {table.name} t where t::text ilike '%Lovelace%' or t::text"
                    " ilike :hex or t::text ilike '%High Street%'"
                ),
                {"hex": f"%{b'Lovelace'.hex()}%"},
            )
            if found.first():
                holders.add(table.name)
    assert holders == {"labels"}
