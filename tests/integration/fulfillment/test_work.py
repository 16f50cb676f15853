"""Pickers, packers, inspectors and events of shipments on a real database: each step once, also
with concurrent calls.
"""

import asyncio
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Invalid, NotFound, Refused
from chassis.values.money import Money
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import (
    CompletePicking,
    Pack,
    RecordInspection,
    Scan,
    ScanItems,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.records import Fulfillment
from tests.integration.fulfillment.events import completed, confirmed, shipped
from tests.integration.fulfillment.peers import FakeShipping, Peer
from tests.unit.fulfillment.samples import envelope, parcel

EXPENSIVE = Money(5000_00, "GBP")


async def planned(operations: Operations, **order: Any) -> Fulfillment:
    """Returns the fulfilment of a new order."""
    [outcome] = await operations.orders.apply_order_events([confirmed(uuid4(), **order)])
    [fulfillment] = unwrap(outcome).fulfillments
    return fulfillment


def steps(fulfillment: Fulfillment) -> list[Envelope[Any]]:
    """Returns the commands of staff, from planning until the packages are closed."""
    fields: dict[str, Any] = {"target": fulfillment.id}
    return [
        envelope(StartPicking, **fields),
        envelope(
            ScanItems,
            scans=tuple(Scan(line.sku, line.quantity) for line in fulfillment.lines),
            **fields,
        ),
        envelope(CompletePicking, **fields),
        envelope(StartPacking, **fields),
        envelope(Pack, packages=(parcel(fulfillment.lines),), **fields),
    ]


async def packed(operations: Operations, **order: Any) -> Fulfillment:
    """Returns a fulfilment whose packages are closed."""
    fulfillment = await planned(operations, **order)
    for step in steps(fulfillment):
        fulfillment = await operations.staff.change(step)
    return fulfillment


async def statuses(engine: AsyncEngine, id: UUID) -> list[Status]:
    """Returns the statuses of its history."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(tables.history.c.new)
            .where(tables.history.c.fulfillment_id == id)
            .order_by("version")
        )
        return list(rows.scalars())


async def test_from_planning_to_ready(operations: Operations, engine: AsyncEngine) -> None:
    """Each step is stored with its history row, and a later read equals the last step's answer."""
    fulfillment = await packed(operations)
    assert fulfillment.status is Status.READY
    assert await operations.reading.get_fulfillment(fulfillment.id) == fulfillment
    assert await statuses(engine, fulfillment.id) == [
        Status.PENDING,
        Status.PLANNING,
        Status.PICKING,
        Status.PICKING,  # a scan
        Status.PICKED,
        Status.PACKING,
        Status.PACKED,
        Status.READY,
    ]


async def test_concurrent_pickers_take_one_picklist(operations: Operations) -> None:
    """Of concurrent requests one wins, and the others get the fulfilment's status; the same request
    twice is one success.
    """
    fulfillment = await planned(operations)
    mine = envelope(StartPicking, target=fulfillment.id)
    rivals = [mine, mine, *(envelope(StartPicking, target=fulfillment.id) for _ in range(4))]
    outcomes = await asyncio.gather(
        *(operations.staff.change(each) for each in rivals), return_exceptions=True
    )
    won = [each for each in outcomes if isinstance(each, Fulfillment)]
    lost = [each for each in outcomes if isinstance(each, Refused)]
    assert (len(won), len(lost)) in [(2, 4), (1, 5)]
    assert isinstance(outcomes[0], Fulfillment) == isinstance(outcomes[1], Fulfillment)
    assert {(each.reason, each.metadata["status"]) for each in lost} == {
        ("ILLEGAL_TRANSITION", "picking")
    }


async def test_a_repeated_scan_counts_once(operations: Operations) -> None:
    """The same request_id again is answered with the fulfilment as it now stands; with other scans
    it is refused.
    """
    fulfillment = await planned(operations)
    await operations.staff.change(envelope(StartPicking, target=fulfillment.id))
    scan = envelope(ScanItems, target=fulfillment.id, scans=(Scan("mug", 1),), request_hash=b"1")
    await operations.staff.change(scan)
    await operations.staff.change(
        envelope(ScanItems, target=fulfillment.id, scans=(Scan("mug", 1),))
    )
    assert [line.picked for line in (await operations.staff.change(scan)).lines] == [2, 0]
    with pytest.raises(Invalid, match="request_id stands for another request"):
        await operations.staff.change(replace(scan, request_hash=b"2"))


async def test_concurrent_scans_never_exceed_the_line(operations: Operations) -> None:
    """Twenty scanners scan one unit each, for a line of ten: ten succeed, ten are refused."""
    fulfillment = await planned(operations, places={"DOVER": [(1, "mug", 10)]})
    await operations.staff.change(envelope(StartPicking, target=fulfillment.id))
    scans = [envelope(ScanItems, target=fulfillment.id, scans=(Scan("mug", 1),)) for _ in range(20)]
    outcomes = await asyncio.gather(
        *(operations.staff.change(scan) for scan in scans), return_exceptions=True
    )
    assert (
        sum(
            isinstance(each, Refused) and each.reason == "QUANTITY_EXCEEDS_PICKLIST"
            for each in outcomes
        )
        == 10
    )
    assert [
        line.picked for line in (await operations.reading.get_fulfillment(fulfillment.id)).lines
    ] == [10]


async def test_ready_fulfilment_is_sent_to_shipping_at_once(
    operations: Operations, carriage: FakeShipping
) -> None:
    """Shipping is asked for a shipment with a parcel for each package; a repeat of the packing
    sends the same request_id.
    """
    fulfillment = await planned(operations)
    *before, pack = steps(fulfillment)
    for step in before:
        await operations.staff.change(step)
    assert carriage.requests == []
    await operations.staff.change(pack)
    await operations.staff.change(pack)
    first, second = carriage.requests
    assert first == second
    assert (first.fulfillment_id, first.order_id, first.attempt) == (
        str(fulfillment.id),
        str(fulfillment.key.order_id),
        1,
    )
    assert [parcel.weight_grams for parcel in first.parcels] == [1200]


@pytest.mark.parametrize(
    "failure",
    [Refused("CARRIER_REFUSED"), Deferred("DEPENDENCY_UNAVAILABLE"), NotFound("ORDER_NOT_FOUND")],
)
async def test_failed_shipping_call_leaves_fulfilment_ready(
    operations: Operations, carriage: FakeShipping, failure: Refused | Deferred | NotFound
) -> None:
    """With any failure of shipping, the fulfilment is ready and the packer's request succeeds."""
    carriage.failure = failure
    assert (await packed(operations)).status is Status.READY


async def test_unreachable_shipping_leaves_fulfilment_ready(
    operations: Operations, shipping_peer: Peer
) -> None:
    """With shipping down, the fulfilment is ready all the same."""
    await shipping_peer.down()
    assert (await packed(operations)).status is Status.READY


async def test_inspection_comes_between_packed_and_ready(
    operations: Operations, carriage: FakeShipping, engine: AsyncEngine
) -> None:
    """An expensive order's packages wait for the inspector. A failure starts the picking again; a
    pass sends the packages to shipping.
    """
    fulfillment = await packed(operations, total=EXPENSIVE)
    assert fulfillment.status is Status.PACKED
    failure = envelope(RecordInspection, target=fulfillment.id, passed=False, note="cracked")
    failed = await operations.staff.change(failure)
    assert (failed.status, failed.packages, {line.picked for line in failed.lines}) == (
        Status.PICKING,
        (),
        {0},
    )
    for step in steps(failed)[1:]:
        await operations.staff.change(step)
    assert carriage.requests == []
    passing = envelope(RecordInspection, target=fulfillment.id, passed=True, note="")
    assert (await operations.staff.change(passing)).status is Status.READY
    assert len(carriage.requests) == 1
    assert (await statuses(engine, fulfillment.id)).count(Status.PACKED) == 2


EVENTS = [shipped, completed]


@pytest.mark.parametrize(
    "order",
    list(dict.fromkeys(permutations([*EVENTS, *EVENTS]))),
    ids=lambda order: "-".join(each.__name__ for each in order),
)
async def test_shipment_events_in_any_order_leave_same_tables(
    operations: Operations, engine: AsyncEngine, order: Any
) -> None:
    """In any order of the events, and repeated, the fulfilment is shipped and completed once each,
    with the shipment.
    """
    fulfillment = await packed(operations)
    for shipment_event in order:
        [outcome] = await operations.writer.write([shipment_event(fulfillment.id)])
        assert isinstance(outcome, Done)
    assert (await statuses(engine, fulfillment.id))[-2:] == [Status.SHIPPED, Status.COMPLETED]
    ended = await operations.reading.get_fulfillment(fulfillment.id)
    assert (ended.status, ended.version, str(ended.shipment_id)) == (
        Status.COMPLETED,
        10,
        str(shipped(fulfillment.id).command.shipment_id),
    )


async def test_shipment_event_ahead_waits(operations: Operations) -> None:
    """A fulfilment has no shipment before it is ready: the event is deferred, changes no table, and
    succeeds later. The same goes for an unknown fulfilment.
    """
    fulfillment = await planned(operations)
    ahead, unknown = await operations.writer.write([shipped(fulfillment.id), completed(uuid4())])
    assert isinstance(ahead, Deferred)
    assert isinstance(unknown, NotFound)
    for step in steps(fulfillment):
        await operations.staff.change(step)
    [outcome] = await operations.writer.write([shipped(fulfillment.id)])
    assert isinstance(outcome, Done)
    assert (await operations.reading.get_fulfillment(fulfillment.id)).status is Status.SHIPPED


async def test_set_of_shipment_events_has_outcome_each(operations: Operations) -> None:
    """Events of many fulfilments come in one set: each has its own outcome, and an early one delays
    no other.
    """
    ready = [await packed(operations) for _ in range(3)]
    behind = await planned(operations)
    outcomes = await operations.writer.write(
        [
            *(shipped(each.id) for each in ready),
            shipped(behind.id),
            *(completed(each.id) for each in ready),
        ]
    )
    assert [isinstance(outcome, Done) for outcome in outcomes] == [
        True,
        True,
        True,
        False,
        True,
        True,
        True,
    ]
    assert {(await operations.reading.get_fulfillment(each.id)).status for each in ready} == {
        Status.COMPLETED
    }


async def test_unknown_fulfilment_is_not_found(operations: Operations) -> None:
    """Reads and changes of an unknown fulfilment get the same answer."""
    with pytest.raises(NotFound):
        await operations.reading.get_fulfillment(uuid4())
    with pytest.raises(NotFound):
        await operations.staff.change(envelope(StartPicking, target=uuid4()))
