"""The history and the events of a person's mutation have the claimed actor, the cause and the
note.
"""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values.convert import timestamp
from chassis.values.errors import Invalid
from chassis.values.paging import page_request
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from tests.integration.fulfillment.events import ONE_PLACE, confirmed
from tests.integration.fulfillment.peers import FakeWarehouse
from tests.integration.fulfillment.requests import Fulfillments, asking, package
from tests.integration.fulfillment.working import EXPENSIVE, published

ACTOR, OTHER = "staff:7f3a", "staff:other"
NOTE = "the box was open"
# Each mutation in the order of the work, with the role that makes it.
ROLES = {
    "StartPicking": "picker",
    "ScanItem": "picker",
    "CompletePicking": "picker",
    "StartPacking": "packer",
    "PackFulfillment": "packer",
    "RecordInspection": "inspector",
    "CancelFulfillment": "staff",
}
SCANS = [api.Scan(sku="mug", quantity=2), api.Scan(sku="Lamp, blue", quantity=1)]
FIELDS: dict[str, dict[str, Any]] = {
    "ScanItem": {"scans": SCANS},
    "PackFulfillment": {"packages": [package((1, 2), (2, 1))]},
    "RecordInspection": {"passed": True},
}
# Mutations that change no status: only the history has them.
SILENT = {"ScanItem"}


def request_of(method: str, fulfillment_id: str, **fields: Any) -> Any:
    """Returns a request of this method that succeeds after those before it."""
    kind: type[Message] = getattr(api, f"{method}Request")
    return asking(kind, fulfillment_id, **(FIELDS.get(method, {}) | fields))


async def called(service: Fulfillments, method: str, request: Message, actor: str | None) -> None:
    """Calls the method, with this claimed actor."""
    metadata = [("ordermesh-actor", actor)] if actor else []
    await getattr(service, method)(request, timeout=10, metadata=metadata)


async def before(service: Fulfillments, operations: Operations, method: str) -> str:
    """Returns the id of a fulfilment of an inspected order, worked on until this method is next."""
    await operations.orders.apply_order_events([confirmed(uuid4(), ONE_PLACE, total=EXPENSIVE)])
    [fulfillment] = (
        await ask(service.ListFulfillments, api.ListFulfillmentsRequest())
    ).fulfillments
    for each in list(ROLES)[: list(ROLES).index(method)]:
        await called(service, each, request_of(each, fulfillment.fulfillment_id), None)
    return fulfillment.fulfillment_id


async def rows_of(service: Fulfillments, id: str, cause: str) -> list[pb.FulfillmentTransition]:
    """Returns the rows of the fulfilment's history that a request with this request_id made."""
    request = api.ListFulfillmentTransitionsRequest(fulfillment_id=id)
    found = (await ask(service.ListFulfillmentTransitions, request)).transitions
    return [row for row in found if row.cause_id.endswith(f":{cause}")]


async def payloads(engine: AsyncEngine) -> list[bytes]:
    """Returns the bodies of the events."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(tables.outbox.c.payload))).scalars())


def test_every_mutation_takes_a_note() -> None:
    """The table of this file has each method with a request_id, and each of these methods has a
    note.
    """
    service = api.DESCRIPTOR.services_by_name["FulfillmentService"]
    every = {method.name: method.input_type.fields_by_name for method in service.methods}
    mutations = {name: fields for name, fields in every.items() if "request_id" in fields}
    assert set(mutations) == set(ROLES)
    assert [name for name, fields in mutations.items() if "note" not in fields] == []


@pytest.mark.parametrize("method", ROLES)
async def test_mutation_with_actor_and_note_is_recorded(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine, method: str
) -> None:
    """The history has the role, the claimed actor, the cause and the note; the events have all but
    the note.

    A repeat with another actor adds no row and no event.
    """
    id = await before(fulfillments, operations, method)
    request = request_of(method, id, note=NOTE)
    await called(fulfillments, method, request, ACTOR)
    found = await rows_of(fulfillments, id, request.request_id)
    assert found
    for row in found:
        assert (row.actor, row.claimed_actor, row.note) == (ROLES[method], ACTOR, NOTE)
    events = [each for each in await published(engine) if each.cause_id == found[0].cause_id]
    assert bool(events) == (method not in SILENT)
    for event, row in zip(events, found, strict=method not in SILENT):
        reason = "WITHDRAWN" if method == "CancelFulfillment" else row.reason
        assert (event.reason, event.actor, event.claimed_actor) == (reason, row.actor, ACTOR)
    assert not any(NOTE.encode() in body for body in await payloads(engine))
    count = len(await payloads(engine))
    await called(fulfillments, method, request, OTHER)
    assert await rows_of(fulfillments, id, request.request_id) == found
    assert len(await payloads(engine)) == count


@pytest.mark.parametrize("method", ROLES)
async def test_mutation_without_actor_or_note_leaves_both_unset(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine, method: str
) -> None:
    """The history and the events have only the role and the cause."""
    id = await before(fulfillments, operations, method)
    request = request_of(method, id)
    await called(fulfillments, method, request, None)
    found = await rows_of(fulfillments, id, request.request_id)
    assert found
    assert not any(row.HasField("claimed_actor") or row.HasField("note") for row in found)
    assert not any(event.HasField("claimed_actor") for event in await published(engine))


async def test_spoiled_units_are_recorded_with_their_finder(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine, stock: FakeWarehouse
) -> None:
    """The finding and the failed inspection are rows with the same note; the event has the
    actor.
    """
    stock.held, stock.others = {1: 2, 2: 1}, {1: 0}
    id = await before(fulfillments, operations, "RecordInspection")
    spoiled = [api.SpoiledUnits(line_number=1, quantity=1)]
    request = request_of("RecordInspection", id, passed=False, spoiled=spoiled, note=NOTE)
    await called(fulfillments, "RecordInspection", request, ACTOR)
    found = await rows_of(fulfillments, id, request.request_id)
    assert [row.reason for row in found] == ["SPOILED_UNITS_FOUND", "INSPECTION_FAILED"]
    assert {(row.claimed_actor, row.note) for row in found} == {(ACTOR, NOTE)}
    [lines] = [
        each for each in await published(engine) if isinstance(each, FulfillmentLinesChanged)
    ]
    assert (
        lines.actor,
        lines.claimed_actor,
        lines.cause_id,
    ) == ("inspector", ACTOR, found[0].cause_id)


async def test_events_of_an_order_name_the_order_and_its_event(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine
) -> None:
    """A change that an order's event causes has the actor "order" and the event's id as its
    cause.
    """
    event = confirmed(uuid4())
    await operations.orders.apply_order_events([event])
    events = await published(engine)
    assert [(each.actor, each.cause_id) for each in events] == [("order", event.cause)] * 2
    request = api.ListFulfillmentTransitionsRequest(
        fulfillment_id=events[0].fulfillment.fulfillment_id,
    )
    listed = (await ask(fulfillments.ListFulfillmentTransitions, request)).transitions
    assert [(row.old_status, row.new_status) for row in listed] == [
        (pb.FULFILLMENT_STATUS_UNSPECIFIED, pb.FULFILLMENT_STATUS_PENDING),
        (pb.FULFILLMENT_STATUS_PENDING, pb.FULFILLMENT_STATUS_PLANNING),
    ]
    assert [
        (
            row.reason,
            row.cause_id,
        )
        for row in listed
    ] == [(each.reason, event.cause) for each in events]


async def test_transitions_come_oldest_first_in_pages(
    fulfillments: Fulfillments,
    operations: Operations,
) -> None:
    """Each version comes once, in order; a page token belongs to its fulfilment."""
    id = await before(fulfillments, operations, "CancelFulfillment")
    request = api.ListFulfillmentTransitionsRequest(fulfillment_id=id)
    found = [
        page
        async for page in pages(
            fulfillments.ListFulfillmentTransitions,
            request,
            "transitions",
            size=3,
        )
    ]
    assert [row.fulfillment_version for page in found for row in page] == list(range(1, 9))
    assert [len(page) for page in found] == [3, 3, 2]
    first = api.ListFulfillmentTransitionsRequest(fulfillment_id=id, page_size=1)
    token = (await ask(fulfillments.ListFulfillmentTransitions, first)).next_page_token
    other = api.ListFulfillmentTransitionsRequest(fulfillment_id=str(uuid4()), page_token=token)
    with pytest.raises(Invalid) as caught:
        await ask(fulfillments.ListFulfillmentTransitions, other)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_transitions_behind_any_place_are_none(
    fulfillments: Fulfillments,
    operations: Operations,
) -> None:
    """A token's place may be higher than any version that the column holds: the page is empty."""
    id = await before(fulfillments, operations, "StartPicking")
    request = api.ListFulfillmentTransitionsRequest(fulfillment_id=id)
    request.page_token = page_request(request, lambda row: row, int).token((2**40,))
    assert not (await ask(fulfillments.ListFulfillmentTransitions, request)).transitions


async def test_list_by_update_time_divides_at_the_bound(
    fulfillments: Fulfillments,
    operations: Operations,
) -> None:
    """The lower bound is inclusive, the upper one exclusive; a nanosecond more rounds up.

    A token belongs to its bounds.
    """
    for _ in range(3):
        await operations.orders.apply_order_events([confirmed(uuid4())])
    every = (await ask(fulfillments.ListFulfillments, api.ListFulfillmentsRequest())).fulfillments
    ids, bound = [each.fulfillment_id for each in every], every[1].update_time
    times = [each.update_time.ToDatetime() for each in every]
    assert times[0] < times[1] < times[2]

    async def listed(**fields: Any) -> list[str]:
        found = await ask(fulfillments.ListFulfillments, api.ListFulfillmentsRequest(**fields))
        return [each.fulfillment_id for each in found.fulfillments]

    assert await listed(update_time_from=bound) == ids[1:]
    assert await listed(update_time_before=bound) == ids[:1]
    above = timestamp(bound.ToDatetime())
    above.nanos += 1
    assert await listed(update_time_from=above) == ids[2:]
    assert await listed(update_time_before=above) == ids[:2]
    later = timestamp(bound.ToDatetime() + timedelta(microseconds=1))
    assert await listed(update_time_from=bound, update_time_before=later) == [ids[1]]
    first = api.ListFulfillmentsRequest(update_time_from=bound, page_size=1)
    token = (await ask(fulfillments.ListFulfillments, first)).next_page_token
    with pytest.raises(Invalid) as caught:
        await listed(update_time_from=later, page_token=token)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
