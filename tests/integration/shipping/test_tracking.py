"""The carrier's reports, over the running server: once each, in any order, up to the end and after
it.
"""

import asyncio
import random
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.shipping.events.v1 import shipping_events_pb2 as events
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values.convert import optional_field
from chassis.values.errors import Invalid, NotFound
from shipping_svc.model.records import purchase_key
from tests.integration.shipping.requests import (
    NOON,
    Shipping,
    create,
    published_events,
    published_types,
    report,
    rows,
)

S = shipping_pb2.ShipmentStatus.Name
LIFE = [
    ("in_transit", 1),
    ("out_for_delivery", 2),
    ("delivery_failed", 3),
    ("out_for_delivery", 4),
    ("delivered", 5),
]


async def created(shipping: Shipping) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create())).shipment


async def record(
    shipping: Shipping,
    shipment: shipping_pb2.Shipment,
    status: str,
    minute: int = 0,
    **more: object,
) -> shipping_pb2.Shipment:
    return (
        await ask(
            shipping.RecordTrackingEvent, report(shipment.tracking_number, status, minute, **more)
        )
    ).shipment


async def listed(shipping: Shipping, shipment: shipping_pb2.Shipment) -> list[str]:
    """Returns the carrier's ids in the tracking list, in its order."""
    response = await ask(
        shipping.ListTrackingEvents, api.ListTrackingEventsRequest(shipment_id=shipment.shipment_id)
    )
    return [event.carrier_event_id for event in response.tracking_events]


async def test_reports_move_a_shipment_to_delivered(
    shipping: Shipping, engine: AsyncEngine
) -> None:
    """The shipment goes step by step to delivered. Each step is one version and one event with the
    shipment as it then stood; the last event is DeliveryConfirmed.
    """
    shipment = await created(shipping)
    stood = [await record(shipping, shipment, status, minute) for status, minute in LIFE]
    assert [S(each.status).removeprefix("SHIPMENT_STATUS_").lower() for each in stood] == [
        status for status, _ in LIFE
    ]
    assert [each.version for each in stood] == [3, 4, 5, 6, 7]
    assert optional_field(stood[-1], "deliver_time") == NOON.replace(minute=5)
    assert not stood[-2].HasField("deliver_time")
    first, *moves, last = await published_events(engine)
    key = purchase_key(UUID(shipment.shipment_id), 0)
    sold = {"reason": "LABEL_BOUGHT", "actor": "sandbox", "cause_id": key}
    assert first == events.ShipmentCreated(
        shipment=shipment, occur_time=shipment.update_time, **sold
    )
    reports = [
        {"reason": "CARRIER_REPORTED", "actor": "sandbox", "cause_id": f"{status}@{minute}"}
        for status, minute in LIFE
    ]
    assert moves == [
        events.ShipmentStatusChanged(
            shipment=each,
            old_status=before.status,
            new_status=each.status,
            occur_time=each.update_time,
            **sent,
        )
        for before, each, sent in zip([shipment, *stood], stood, reports, strict=False)
    ]
    assert last == events.DeliveryConfirmed(
        shipment=stood[-1],
        deliver_time=stood[-1].deliver_time,
        occur_time=stood[-1].update_time,
        **reports[-1],
    )
    assert await listed(shipping, shipment) == [f"{status}@{minute}" for status, minute in LIFE]


@pytest.mark.parametrize("at_once", [False, True])
async def test_reports_in_any_order_leave_the_same_shipment(
    shipping: Shipping, engine: AsyncEngine, at_once: bool
) -> None:
    """Reports come shuffled and repeated, one by one or all at once. The shipment is delivered at
    the reported time, the tracking list has all, and there is one DeliveryConfirmed.
    """
    shipment = await created(shipping)
    reports = LIFE * 2
    random.Random(7).shuffle(reports)
    if at_once:
        await asyncio.gather(
            *(record(shipping, shipment, status, minute) for status, minute in reports)
        )
    else:
        for status, minute in reports:
            await record(shipping, shipment, status, minute)
    end = (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment.shipment_id))
    ).shipment
    assert end.status == shipping_pb2.SHIPMENT_STATUS_DELIVERED
    assert optional_field(end, "deliver_time") == NOON.replace(minute=5)
    assert sorted(await listed(shipping, shipment)) == sorted(
        f"{status}@{minute}" for status, minute in LIFE
    )
    assert (await published_types(engine)).count("DeliveryConfirmed") == 1


async def test_report_that_skips_steps_is_one_step(shipping: Shipping, engine: AsyncEngine) -> None:
    """A report from created to delivered, without a scan between, is one step, one event, one
    version.
    """
    shipment = await created(shipping)
    end = await record(shipping, shipment, "delivered")
    assert (end.status, end.version) == (shipping_pb2.SHIPMENT_STATUS_DELIVERED, 3)
    assert await published_types(engine) == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "DeliveryConfirmed",
    ]


async def test_report_after_the_end_moves_no_shipment(
    shipping: Shipping, engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """A report after the end is recorded, and changes neither the shipment nor its published
    events.
    """
    for end in ("delivered", "lost", "returned_to_sender"):
        with subtests.test(end):
            shipment = await created(shipping)
            ended = await record(shipping, shipment, end, 1)
            before = await published_types(engine)
            for status in ("in_transit", "delivered", "lost", "returned_to_sender"):
                assert await record(shipping, shipment, status, 9) == ended
            assert len(await listed(shipping, shipment)) == 5
            assert await published_types(engine) == before
    assert (await published_types(engine)).count("DeliveryConfirmed") == 1


async def test_repeated_report_is_recorded_once(shipping: Shipping, engine: AsyncEngine) -> None:
    """The carrier's id identifies a report under any request_id, concurrently or after the keys are
    deleted; another shipment has ids of its own.
    """
    shipment, other = await created(shipping), await created(shipping)
    await asyncio.gather(*(record(shipping, shipment, "in_transit", 1) for _ in range(10)))
    async with engine.begin() as connection:
        await connection.execute(text("delete from idempotency_keys"))
    again = await record(shipping, shipment, "delivered", 9, carrier_event_id="in_transit@1")
    assert (again.status, again.version) == (shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT, 3)
    assert await listed(shipping, shipment) == ["in_transit@1"]
    assert (
        await record(shipping, other, "delivered", 9, carrier_event_id="in_transit@1")
    ).status == shipping_pb2.SHIPMENT_STATUS_DELIVERED


async def test_request_id_with_another_report_is_refused(shipping: Shipping) -> None:
    """The same request again is answered with the shipment as it now stands; with another body it
    is refused.
    """
    shipment = await created(shipping)
    request = report(shipment.tracking_number, "in_transit")
    await ask(shipping.RecordTrackingEvent, request)
    now = await record(shipping, shipment, "delivered", 5)
    assert (await ask(shipping.RecordTrackingEvent, request)).shipment == now
    with pytest.raises(Invalid) as refused:
        await record(shipping, shipment, "lost", request_id=request.request_id)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_unknown_tracking_number_is_not_found(
    shipping: Shipping, engine: AsyncEngine
) -> None:
    """The answer is SHIPMENT_NOT_FOUND and the report is not stored: the carrier may send it again
    when the label is stored.
    """
    with pytest.raises(NotFound) as unknown:
        await ask(shipping.RecordTrackingEvent, report("SBX0", "in_transit"))
    assert (unknown.value.reason, unknown.value.metadata) == (
        "SHIPMENT_NOT_FOUND",
        {"carrier": "sandbox", "tracking_number": "SBX0"},
    )
    assert await rows(engine, "select * from idempotency_keys") == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"status": "SHIPMENT_STATUS_CREATED"}, "status"),
    ({"status": "SHIPMENT_STATUS_PENDING"}, "status"),
    ({"status": "SHIPMENT_STATUS_FAILED"}, "status"),
    ({"status": 77}, "status"),
    ({"occur_time": None}, "occur_time"),
    ({"occur_time": {"seconds": 10**15}}, "occur_time"),
    ({"occur_time": {"nanos": -1}}, "occur_time"),
    ({"carrier_event_id": ""}, "carrier_event_id"),
    ({"tracking_number": "x" * 65}, "tracking_number"),
    ({"carrier": ""}, "carrier"),
    ({"carrier": "x" * 65}, "carrier"),
    ({"location": "x" * 101}, "location"),
    ({"request_id": "7"}, "request_id"),
]


async def test_bad_report_names_its_fields(shipping: Shipping, subtests: pytest.Subtests) -> None:
    """Each field that breaks its bounds is named, for any report."""
    good = report("SBX0", "lost")
    fields = {field.name: value for field, value in good.ListFields()}
    for bad, field in BAD:
        with subtests.test(**bad):
            with pytest.raises(Invalid) as refused:
                await ask(
                    shipping.RecordTrackingEvent, api.RecordTrackingEventRequest(**(fields | bad))
                )
            assert refused.value.reason == "VALIDATION_FAILED"
            assert [
                violation.subject.partition(".")[0] for violation in refused.value.violations
            ] == [field]


async def test_tracking_is_paged(shipping: Shipping) -> None:
    """Reports come two at a time, in the order of recording, each once; a token of one shipment is
    refused for another.
    """
    shipment, other = await created(shipping), await created(shipping)
    for status, minute in LIFE:
        await record(shipping, shipment, status, minute)
    each = api.ListTrackingEventsRequest(shipment_id=shipment.shipment_id)
    seen = [
        event
        async for page in pages(shipping.ListTrackingEvents, each, "tracking_events", size=2)
        for event in page
    ]
    assert [event.carrier_event_id for event in seen] == [
        f"{status}@{minute}" for status, minute in LIFE
    ]
    assert {(event.shipment_id, event.location) for event in seen} == {
        (shipment.shipment_id, "Dover hub")
    }
    first = api.ListTrackingEventsRequest(shipment_id=shipment.shipment_id, page_size=2)
    token = (await ask(shipping.ListTrackingEvents, first)).next_page_token
    request = api.ListTrackingEventsRequest(
        shipment_id=other.shipment_id, page_size=2, page_token=token
    )
    with pytest.raises(Invalid) as refused:
        await ask(shipping.ListTrackingEvents, request)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    with pytest.raises(NotFound):
        await ask(
            shipping.ListTrackingEvents, api.ListTrackingEventsRequest(shipment_id=str(uuid4()))
        )
