"""The history and the events of a person's change to a shipment have its actor and its reason."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.convert import timestamp
from chassis.values.decision import Done
from chassis.values.errors import Invalid, Refused
from chassis.values.paging import page_request
from shipping_svc.app import Operations
from tests.integration.shipping.creations import fulfillment_event
from tests.integration.shipping.requests import (
    Shipping,
    cancel,
    create,
    handlers_of,
    published_events,
    report,
    rows,
)

ACTOR, NOTE = "staff:7f3a", "The customer called."
METADATA = [("ordermesh-actor", ACTOR)]
Call = tuple[Callable[..., Awaitable[Any]], Message]
Mutation = Callable[[Shipping, shipping_pb2.Shipment], Call]


def creation(shipping: Shipping, _: shipping_pb2.Shipment) -> tuple[Any, Message]:
    return shipping.CreateShipment, create()


def recall(shipping: Shipping, record: shipping_pb2.Shipment) -> tuple[Any, Message]:
    return shipping.CancelShipment, cancel(record.shipment_id)


def tracking(shipping: Shipping, record: shipping_pb2.Shipment) -> tuple[Any, Message]:
    return shipping.RecordTrackingEvent, report(record.tracking_number, "delivered")


# The mutation, the first row that it makes, its reason and actor, and the number of that row's
# events.
MUTATIONS = [
    pytest.param(creation, 1, "FULFILLMENT_READY", "shipping", 0, id="create"),
    pytest.param(recall, 3, "RECALLED", "staff", 1, id="cancel"),
    pytest.param(tracking, 3, "CARRIER_REPORTED", "sandbox", 2, id="report"),
]


async def transitions(
    shipping: Shipping, shipment_id: str
) -> Sequence[shipping_pb2.ShipmentTransition]:
    request = api.ListShipmentTransitionsRequest(shipment_id=shipment_id)
    return (await ask(shipping.ListShipmentTransitions, request)).transitions


@pytest.mark.parametrize(("mutation", "version", "reason", "actor", "event_count"), MUTATIONS)
@pytest.mark.parametrize("claimed", [True, False])
async def test_mutation_with_actor_and_note_is_in_history(
    shipping: Shipping,
    engine: AsyncEngine,
    mutation: Mutation,
    version: int,
    reason: str,
    actor: str,
    event_count: int,
    claimed: bool,
) -> None:
    """The row of a request has its claimed actor and its note; its events have the actor.

    No event has the note. Without metadata and note both are unset.
    """
    there = (await ask(shipping.CreateShipment, create())).shipment
    before = len(await published_events(engine))
    method, request = cast("tuple[Any, Any]", mutation(shipping, there))
    cause = getattr(request, "carrier_event_id", "") or request.request_id
    if claimed:
        request.note = NOTE
    changed = (await method(request, timeout=5, metadata=METADATA if claimed else None)).shipment

    listed = await transitions(shipping, changed.shipment_id)
    assert [row.shipment_version for row in listed] == list(range(1, changed.version + 1))
    row = listed[version - 1]
    said = (row.reason, row.actor, row.cause_id, row.claimed_actor, row.note)
    assert said == (reason, actor, cause, *((ACTOR, NOTE) if claimed else ("", "")))
    assert (row.HasField("claimed_actor"), row.HasField("note")) == (claimed, claimed)
    others = [each for each in listed if each is not row]
    assert not any(each.HasField("claimed_actor") or each.HasField("note") for each in others)

    events: list[Any] = (await published_events(engine))[before:]
    of_row = [event for event in events if event.shipment.version == version]
    assert len(of_row) == event_count
    for event in of_row:
        assert (event.reason, event.actor, event.cause_id) == (reason, actor, cause)
        assert event.HasField("claimed_actor") == claimed
        assert event.claimed_actor == (ACTOR if claimed else "")
    assert all(event.cause_id and event.reason and event.actor for event in events)
    assert [event for event in events if NOTE in str(event)] == []


async def test_retry_with_another_actor_changes_nothing(shipping: Shipping) -> None:
    """A retry with another claimed actor is a repeat; with another note it is refused."""
    there = (await ask(shipping.CreateShipment, create())).shipment
    request = cancel(there.shipment_id, note=NOTE)
    await shipping.CancelShipment(request, timeout=5, metadata=METADATA)
    first = await transitions(shipping, there.shipment_id)
    await shipping.CancelShipment(request, timeout=5, metadata=[("ordermesh-actor", "staff:other")])
    assert await transitions(shipping, there.shipment_id) == first
    assert [row.claimed_actor for row in first if row.claimed_actor] == [ACTOR]
    request.note = "Another reason."
    with pytest.raises(Invalid) as refused:
        await ask(shipping.CancelShipment, request)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_report_that_moves_nothing_has_actor_and_note(shipping: Shipping) -> None:
    """The tracking list has the claimed actor and the note of a report that is only recorded."""
    there = (await ask(shipping.CreateShipment, create())).shipment
    await ask(shipping.RecordTrackingEvent, report(there.tracking_number, "delivered", 5))
    late = report(there.tracking_number, "in_transit", 1, note=NOTE)
    await shipping.RecordTrackingEvent(late, timeout=5, metadata=METADATA)
    assert len(await transitions(shipping, there.shipment_id)) == 3
    request = api.ListTrackingEventsRequest(shipment_id=there.shipment_id)
    first, second = (await ask(shipping.ListTrackingEvents, request)).tracking_events
    assert (second.claimed_actor, second.note) == (ACTOR, NOTE)
    assert not first.HasField("claimed_actor")
    assert not first.HasField("note")


@pytest.mark.parametrize("note", ["", "x" * 501])
async def test_note_beyond_its_bounds_is_refused(shipping: Shipping, note: str) -> None:
    """A note has 1 to 500 characters, on each request that can have one."""
    calls: list[tuple[Any, Message]] = [
        (shipping.CreateShipment, create(note=note)),
        (shipping.CancelShipment, cancel(str(uuid4()), note=note)),
        (shipping.RecordTrackingEvent, report("SBX0", "lost", note=note)),
    ]
    for method, request in calls:
        with pytest.raises(Invalid) as refused:
            await ask(method, request)
        assert [violation.subject for violation in refused.value.violations] == ["note"]


async def test_transitions_are_listed_in_pages(shipping: Shipping) -> None:
    """Transitions come oldest first with the statuses of each step; a page begins after the
    previous page's last row.
    """
    there = (await ask(shipping.CreateShipment, create())).shipment
    lost = report(there.tracking_number, "lost")
    after = (await ask(shipping.RecordTrackingEvent, lost)).shipment
    request = api.ListShipmentTransitionsRequest(shipment_id=there.shipment_id, page_size=2)
    first = await ask(shipping.ListShipmentTransitions, request)
    request.page_token = first.next_page_token
    second = await ask(shipping.ListShipmentTransitions, request)
    assert second.next_page_token == ""
    transitions = [*first.transitions, *second.transitions]
    name = shipping_pb2.ShipmentStatus.Name
    assert [(name(row.old_status), name(row.new_status)) for row in transitions] == [
        ("SHIPMENT_STATUS_UNSPECIFIED", "SHIPMENT_STATUS_PENDING"),
        ("SHIPMENT_STATUS_PENDING", "SHIPMENT_STATUS_CREATED"),
        ("SHIPMENT_STATUS_CREATED", "SHIPMENT_STATUS_LOST"),
    ]
    assert transitions[-1].occur_time == after.update_time


async def test_lists_behind_any_place_are_empty(shipping: Shipping) -> None:
    """A token's place may be higher than any version that the column holds: the page is empty."""
    there = (await ask(shipping.CreateShipment, create())).shipment
    request = api.ListShipmentTransitionsRequest(shipment_id=there.shipment_id)
    request.page_token = page_request(request, lambda row: row, int).token((2**40,))
    assert not (await ask(shipping.ListShipmentTransitions, request)).transitions
    reports = api.ListTrackingEventsRequest(shipment_id=there.shipment_id)
    reports.page_token = page_request(reports, lambda row: row, int).token((2**63 - 2,))
    assert not (await ask(shipping.ListTrackingEvents, reports)).tracking_events


async def test_shipments_are_listed_by_update_time(shipping: Shipping, engine: AsyncEngine) -> None:
    """update_time_from is inclusive, update_time_before exclusive; nanoseconds are rounded up.

    A page token belongs to its bounds.
    """
    made = [(await ask(shipping.CreateShipment, create())).shipment for _ in range(3)]
    bound = made[1].update_time
    just_after = Timestamp(seconds=bound.seconds, nanos=bound.nanos + 1)
    assert bound.nanos % 1000 == 0

    async def listed(**wanted: Any) -> list[int]:
        found = (await ask(shipping.ListShipments, api.ListShipmentsRequest(**wanted))).shipments
        return [made.index(each) for each in found]

    assert await listed(update_time_from=bound) == [2, 1]
    assert await listed(update_time_before=bound) == [0]
    assert await listed(update_time_from=just_after) == [2]
    assert await listed(update_time_before=just_after) == [1, 0]
    next_microsecond = timestamp(bound.ToDatetime() + timedelta(microseconds=1))
    assert await listed(update_time_from=bound, update_time_before=next_microsecond) == [1]
    bounded = api.ListShipmentsRequest(update_time_from=bound, page_size=1)
    token = (await ask(shipping.ListShipments, bounded)).next_page_token
    for other in ({}, {"update_time_from": just_after}, {"update_time_before": bound}):
        with pytest.raises(Invalid) as refused:
            await listed(page_token=token, page_size=1, **other)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_withdrawal_with_forged_version_is_refused(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A withdrawal with version 2^60 fails as VERSION_JUMP, for a known fulfilment or a new one.

    It stores nothing; the true withdrawal after it counts.
    """
    request, unknown = create(), create()
    handlers = handlers_of(operations)
    await handlers[FulfillmentStatusChanged]([fulfillment_event(request, "READY")])
    before = await rows(engine, "select * from shipments")
    for each in (request, unknown):
        [outcome] = await handlers[FulfillmentLinesChanged]([withdrawal(each, 2**60)])
        assert isinstance(outcome, Refused)
        assert outcome.reason == "VERSION_JUMP"
    assert await rows(engine, "select * from shipments") == before
    await handlers[FulfillmentLinesChanged]([withdrawal(request, 9)])
    assert [row.withdraw_version for row in await rows(engine, "select * from shipments")] == [9]


async def test_fulfilment_scanned_10_001_times_gets_its_shipment(
    operations: Operations, engine: AsyncEngine
) -> None:
    """The first event of a fulfilment that shipping consumes is `ready` at version 10,003, or a
    withdrawal: it counts.

    A forged 2^60 of another fulfilment fails as VERSION_JUMP, and stores nothing.
    """
    scanned, withdrawn, forged = create(), create(), create()
    handlers = handlers_of(operations)
    [outcome] = await handlers[FulfillmentStatusChanged]([ready(scanned, 10_003)])
    assert isinstance(outcome, Done)
    [outcome] = await handlers[FulfillmentLinesChanged]([withdrawal(withdrawn, 10_004)])
    assert isinstance(outcome, Done)
    [outcome] = await handlers[FulfillmentStatusChanged]([ready(forged, 2**60)])
    assert isinstance(outcome, Refused)
    assert outcome.reason == "VERSION_JUMP"
    stored = await rows(engine, "select fulfillment_version, withdraw_version from shipments")
    assert set(map(tuple, stored)) == {(10_003, None), (10_004, 10_004)}


async def test_successor_with_version_jump_is_refused(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A shipment that follows a withdrawn one may be at most 10,000 versions above it."""
    request = create()
    handlers = handlers_of(operations)
    await handlers[FulfillmentStatusChanged]([ready(request, 20_000)])
    await handlers[FulfillmentLinesChanged]([withdrawal(request, 20_001)])
    for version, reason in ((2**60, "VERSION_JUMP"), (30_002, "VERSION_JUMP"), (30_001, None)):
        [outcome] = await handlers[FulfillmentStatusChanged]([ready(request, version)])
        assert (outcome.reason if isinstance(outcome, Refused) else None) == reason
    stored = await rows(
        engine, "select status::text, fulfillment_version from shipments order by id"
    )
    assert list(map(tuple, stored)) == [("voided", 20_000), ("created", 30_001)]


def ready(request: api.CreateShipmentRequest, version: int) -> Delivery[FulfillmentStatusChanged]:
    """Returns the event that the request's fulfilment is ready, at this version of it."""
    record = fulfillment_event(request, "READY")
    record.message.fulfillment.version = version
    return record


def withdrawal(request: api.CreateShipmentRequest, version: int) -> Any:
    """Returns the event that the request's fulfilment withdraws its parcels, at this version of
    it.
    """
    ready: Any = fulfillment_event(request, "READY")
    record = fulfillment_pb2.Fulfillment()
    record.CopyFrom(ready.message.fulfillment)
    record.version, record.withdraw_reason = version, "ITEMS_CANCELLED"
    return replace(ready, message=FulfillmentLinesChanged(fulfillment=record))
