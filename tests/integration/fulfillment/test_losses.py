"""Orders that lose units, staff who do not find them or find them damaged, on a real database: in every order, twice, and at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged, FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.warehouse.v1.reservation_service_pb2 import ReservationFailure
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.client import ask
from chassis.decision import Done, unwrap
from chassis.errors import Deferred, Failure, Invalid, Refused
from chassis.money import Money
from fulfillment_svc import store, tables
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model import (
    Asked,
    CompletePicking,
    Fulfillment,
    GiveUp,
    OrderNews,
    Pack,
    Package,
    PackedItem,
    RecordInspection,
    Scan,
    ScanItems,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.operations import Operations
from tests.integration.fulfillment.events import Places, cancelled, confirmed, lost, shipped
from tests.integration.fulfillment.peers import FakeShipping, FakeWarehouse, Peer
from tests.integration.fulfillment.requests import Fulfillments, asking, pack, pick
from tests.support import Eventually
from tests.unit.fulfillment.samples import command

DEAR = Money(5000_00, "GBP")
# 3 mugs of DOVER and 2 of LEEDS; then a unit of DOVER is cancelled, then all of LEEDS.
WHOLE: Places = {"DOVER": [(1, "mug", 3), (2, "cup", 1)], "LEEDS": [(1, "mug", 2)]}
LESS: Places = {"DOVER": [(1, "mug", 2), (2, "cup", 1)], "LEEDS": [(1, "mug", 2)]}
LEAST: Places = {"DOVER": [(1, "mug", 2), (2, "cup", 1)]}
Units = dict[str, tuple[Status, list[tuple[int, int, int, int]]]]


async def units(engine: AsyncEngine) -> Units:
    """Of every warehouse's fulfilment its status, and of its lines what is left, cut, short and spoiled."""
    async with engine.connect() as connection:
        ids = (await connection.execute(select(tables.fulfillments.c.id))).scalars().all()
        return {
            each.work.warehouse_id: (each.status, [(line.quantity, line.cut, line.short, line.spoiled) for line in each.lines])
            for each in (await store.find_fulfillments(connection, ids)).values()
        }


async def told(engine: AsyncEngine, id: UUID | None = None) -> list[FulfillmentStatusChanged | FulfillmentLinesChanged]:
    """The events that wait to be published, oldest first: of all fulfilments, or of one."""
    kinds: dict[str, type[FulfillmentStatusChanged | FulfillmentLinesChanged]] = {
        kind.DESCRIPTOR.full_name: kind for kind in (FulfillmentStatusChanged, FulfillmentLinesChanged)
    }
    outbox = tables.outbox.c
    async with engine.connect() as connection:
        rows = await connection.execute(select(outbox.type, outbox.payload, outbox.aggregate).order_by(outbox.id))
        return [kinds[kind].FromString(payload) for kind, payload, aggregate in rows if id in (None, aggregate)]


def reasons(events: list[FulfillmentStatusChanged | FulfillmentLinesChanged]) -> list[tuple[str, int, str]]:
    """What each event says: the kind, the version, why."""
    return [(type(each).__name__.removeprefix("Fulfillment"), each.fulfillment.version, each.reason) for each in events]


async def planned(operations: Operations, places: Places, **order: Any) -> Fulfillment:
    """The one fulfilment of a new order."""
    [outcome] = await operations.follow_orders([confirmed(uuid4(), places, **order)])
    [fulfillment] = unwrap(outcome)
    return fulfillment


def packing(its: Fulfillment) -> Pack:
    """Everything that was picked, in one package."""
    items = tuple(PackedItem(line.line_number, line.picked) for line in its.lines if line.picked)
    return command(Pack, target=its.id, packages=(Package(0, 1200, 300, 200, 100, items),))


async def worked(operations: Operations, its: Fulfillment, until: Status) -> Fulfillment:
    """The fulfilment, worked on by the book until it stands there."""
    steps: dict[Status, Callable[[Fulfillment], Asked]] = {
        Status.PLANNING: lambda f: command(StartPicking, target=f.id),
        Status.PICKED: lambda f: command(StartPacking, target=f.id),
        Status.PACKING: packing,
    }
    while its.status is not until:
        if its.status is Status.PICKING:
            scans = tuple(Scan(line.sku, line.open) for line in its.lines if line.open)
            its = await operations.change(command(ScanItems, target=its.id, scans=scans)) if scans else its
            its = await operations.change(command(CompletePicking, target=its.id))
        else:
            its = await operations.change(steps[its.status](its))
    return its


# --- what the order loses

NEWS: dict[str, Callable[[UUID], OrderNews]] = {
    "confirmed": lambda id: confirmed(id, WHOLE),
    "less": lambda id: lost(id, LESS, version=3),
    "least": lambda id: lost(id, LEAST, version=4),
    "dead": lambda id: cancelled(id, LEAST, version=5),
}


@pytest.mark.parametrize("names", list(permutations(["confirmed", "less", "least"])), ids="-".join)
async def test_cuts_twice_and_in_every_order_leave_the_same_tables(
    operations: Operations, engine: AsyncEngine, order_id: UUID, names: tuple[str, ...]
) -> None:
    """Whichever is heard first, and how often, also together: what stays is picked, the rest is cut and told, once."""
    for name in (*names, *names):
        [outcome] = await operations.follow_orders([NEWS[name](order_id)])
        assert isinstance(outcome, Done)
    left: Units = {"DOVER": (Status.PLANNING, [(2, 1, 0, 0), (1, 0, 0, 0)]), "LEEDS": (Status.CANCELLED, [(0, 2, 0, 0)])}
    assert await units(engine) == left
    last = {each.fulfillment.warehouse_id: each.fulfillment for each in await told(engine)}
    assert {at: [(line.quantity, line.cut_quantity) for line in its.picklist] for at, its in last.items()} == {
        "DOVER": [(2, 1), (1, 0)],
        "LEEDS": [(0, 2)],
    }
    other = uuid4()
    await operations.follow_orders([NEWS[name](other) for name in names])
    assert await units(engine) == left


@pytest.mark.parametrize("names", list(permutations(NEWS)), ids="-".join)
async def test_a_death_meets_cuts_in_every_order(
    operations: Operations, engine: AsyncEngine, order_id: UUID, names: tuple[str, ...]
) -> None:
    """Nothing lives, and each unit that was committed is told as cut: so the warehouse has them all back."""
    for name in (*names, names[0]):
        [outcome] = await operations.follow_orders([NEWS[name](order_id)])
        assert isinstance(outcome, Done)
    assert await units(engine) == {
        "DOVER": (Status.CANCELLED, [(0, 3, 0, 0), (0, 1, 0, 0)]),
        "LEEDS": (Status.CANCELLED, [(0, 2, 0, 0)]),
    }
    last = {each.fulfillment.warehouse_id: each.fulfillment for each in await told(engine)}
    assert {at: [line.cut_quantity for line in its.picklist] for at, its in last.items()} == {"DOVER": [3, 1], "LEEDS": [2]}


@pytest.mark.parametrize("until", [Status.PACKED, Status.READY])
async def test_a_cut_opens_the_packages(operations: Operations, engine: AsyncEngine, until: Status) -> None:
    """packed and ready go back to packing: told as lines and then as the status; the packer packs what stays."""
    total = DEAR if until is Status.PACKED else Money(10_00, "GBP")
    its = await worked(operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}, total=total), until)
    await operations.follow_orders([lost(its.work.order_id, {"DOVER": [(1, "mug", 2)]})])
    cut = await operations.get_fulfillment(its.id)
    assert (cut.status, cut.packages, [(line.quantity, line.picked, line.cut) for line in cut.lines]) == (Status.PACKING, (), [(2, 2, 1)])
    assert reasons(await told(engine))[-2:] == [
        ("LinesChanged", its.version + 1, "UNITS_CUT"),
        ("StatusChanged", its.version + 2, "UNITS_CUT"),
    ]
    assert (await operations.change(packing(cut))).status is until


MUGS: Places = {"DOVER": [(1, "mug", 3)]}
FEWER: Places = {"DOVER": [(1, "mug", 2)]}


async def test_a_shipment_that_meets_a_cut_goes_once_it_is_packed_again(
    operations: Operations, engine: AsyncEngine, carriage: FakeShipping
) -> None:
    """Its label is bought while a unit is cut: the shipment is remembered, nobody is told, and the packer's last step ships it. News of
    it that is told again changes nothing, and shipping is not asked again.
    """
    its = await worked(operations, await planned(operations, MUGS), Status.READY)
    await operations.follow_orders([lost(its.work.order_id, FEWER)])
    before = await told(engine, its.id)
    for outcome in await operations.note([shipped(its.id), shipped(its.id)]):
        assert isinstance(outcome, Done)
    opened = await operations.get_fulfillment(its.id)
    assert (opened.status, opened.shipment_id) == (Status.PACKING, shipped(its.id).shipment_id)
    assert await told(engine, its.id) == before
    gone = await operations.change(packing(opened))
    assert (gone.status, gone.shipment_id) == (Status.SHIPPED, shipped(its.id).shipment_id)
    assert [reason for _, _, reason in reasons(await told(engine, its.id))][-3:] == [
        "PACKING_COMPLETED",
        "INSPECTION_NOT_REQUIRED",
        "SHIPMENT_CREATED",
    ]
    assert len(carriage.requests) == 1


async def test_what_is_packed_anew_is_asked_for_anew(operations: Operations, carriage: FakeShipping) -> None:
    """Ready, cut and ready again, with other parcels: a request of its own, of a greater version, and the same one when it is repeated."""
    its = await worked(operations, await planned(operations, MUGS), Status.READY)
    await operations.follow_orders([lost(its.work.order_id, FEWER)])
    again = packing(await operations.get_fulfillment(its.id))
    for _ in range(2):
        await operations.change(again)
    first, second, repeated = carriage.requests
    assert second == repeated
    assert first.request_id != second.request_id
    assert first.fulfillment_version < second.fulfillment_version == (await operations.get_fulfillment(its.id)).version


async def test_a_cut_that_meets_shipped_is_ignored(operations: Operations, engine: AsyncEngine) -> None:
    """What has left has left: the order sees by itself that too much is on its way."""
    its = await worked(operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.READY)
    await operations.note([shipped(its.id)])
    before = len(await told(engine))
    [outcome] = await operations.follow_orders([lost(its.work.order_id, {"DOVER": [(1, "mug", 1)]})])
    assert isinstance(outcome, Done)
    assert await units(engine) == {"DOVER": (Status.SHIPPED, [(3, 0, 0, 0)])}
    assert len(await told(engine)) == before


async def test_a_cut_meets_scanners(operations: Operations, engine: AsyncEngine) -> None:
    """Five scanners and two cuts at once, again and again: a scan is counted or refused, and never beyond what stays."""
    for _ in range(6):
        its = await operations.change(command(StartPicking, target=(await planned(operations, {"DOVER": [(1, "mug", 5)]})).id))
        scans = [operations.change(command(ScanItems, target=its.id, scans=(Scan("mug", 1),))) for _ in range(5)]
        cuts = [
            operations.follow_orders([lost(its.work.order_id, {"DOVER": [(1, "mug", stays)]}, version=v)]) for stays, v in [(3, 4), (4, 3)]
        ]
        outcomes = await asyncio.gather(*scans[:3], *cuts, *scans[3:], return_exceptions=True)
        assert all(each.reason == "QUANTITY_EXCEEDS_PICKLIST" for each in outcomes if isinstance(each, Failure))
        assert not [each for each in outcomes if isinstance(each, Exception) and not isinstance(each, Refused)]
        [line] = (await operations.get_fulfillment(its.id)).lines
        assert (line.quantity, line.picked, line.cut) == (3, 3, 2)
        last = (await told(engine, its.id))[-1].fulfillment.picklist[0]
        assert (last.quantity, last.cut_quantity) == (3, 2)


async def test_a_cut_meets_the_packer(operations: Operations) -> None:
    """Packing and a cut at once: packed first, it is opened again; cut first, the packages do not hold what is to be packed."""
    won = set()
    for n in range(10):
        its = await worked(operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.PACKING)
        race = [operations.change(packing(its)), operations.follow_orders([lost(its.work.order_id, {"DOVER": [(1, "mug", 2)]})])]
        outcomes = await asyncio.gather(*(race if n % 2 else race[::-1]), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert all(isinstance(each, Refused) and each.reason == "PACKAGES_INCOMPLETE" for each in refused)
        won.add(bool(refused))
        cut = await operations.get_fulfillment(its.id)
        assert (cut.status, cut.packages, [(line.quantity, line.picked, line.cut) for line in cut.lines]) == (
            Status.PACKING,
            (),
            [(2, 2, 1)],
        )
    assert won


async def test_a_death_meets_what_becomes_ready(operations: Operations, engine: AsyncEngine) -> None:
    """The last package is closed as the order dies: whoever is first, nothing is ready in the end, and its units are told as cut once."""
    for n in range(10):
        its = await worked(operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.PACKING)
        race = [operations.change(packing(its)), operations.follow_orders([cancelled(its.work.order_id, {"DOVER": [(1, "mug", 3)]})])]
        outcomes = await asyncio.gather(*(race if n % 2 else race[::-1]), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert all(isinstance(each, Refused) and each.reason == "ILLEGAL_TRANSITION" for each in refused)
        dead = await operations.get_fulfillment(its.id)
        assert (dead.status, [(line.quantity, line.cut) for line in dead.lines]) == (Status.CANCELLED, [(0, 3)])
        assert [each.fulfillment.version for each in await told(engine, its.id)][-1] == dead.version


async def test_stock_that_moves_while_the_order_dies_goes_back(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """The worker asks for owed stock, the order dies meanwhile, and the answer names a warehouse that nobody knew of: the gate is shut
    there as well, and its units are told as cut."""
    stock.refused = {str(order_id): ReservationFailure(reason="CONTENTION", retryable=True)}
    await operations.follow_orders([confirmed(order_id, owed=True)])
    stock.shares = {str(order_id): {"YORK": [(1, "mug", 2), (2, "Lamp, blue", 1)]}}

    async def dies() -> None:
        stock.meanwhile = None
        await operations.follow_orders([cancelled(order_id)])

    stock.meanwhile = dies
    await operations.commit_owed_stock()
    gone = (Status.CANCELLED, [(0, 2, 0, 0), (0, 1, 0, 0)])
    assert await units(engine) == {"DOVER": gone, "YORK": gone}


# --- what the staff find


async def test_a_line_is_closed_short(fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine) -> None:
    """Over the wire: what is not found leaves the picklist; a repeat of the request is one; nothing found cancels the work."""
    its = await planned(operations, {"DOVER": [(1, "mug", 3), (2, "cup", 1)]})
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, str(its.id)))
    await ask(fulfillments.ScanItem, asking(api.ScanItemRequest, str(its.id), scans=[api.Scan(sku="mug", quantity=2)]))
    closing = asking(api.CompletePickingRequest, str(its.id), short_line_numbers=[1, 2])
    picked = (await ask(fulfillments.CompletePicking, closing)).fulfillment
    assert picked.status == pb.FULFILLMENT_STATUS_PICKED
    assert [(line.quantity, line.picked_quantity, line.short_quantity) for line in picked.picklist] == [(2, 2, 1), (0, 0, 1)]
    assert (await ask(fulfillments.CompletePicking, closing)).fulfillment == picked
    assert reasons(await told(engine))[-2:] == [("LinesChanged", 5, "SHORT_PICK"), ("StatusChanged", 6, "PICKING_COMPLETED")]
    assert (await pack(fulfillments, picked)).status == pb.FULFILLMENT_STATUS_READY

    other = await planned(operations, {"DOVER": [(1, "mug", 3)]})
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, str(other.id)))
    none = await ask(fulfillments.CompletePicking, asking(api.CompletePickingRequest, str(other.id), short_line_numbers=[1]))
    assert none.fulfillment.status == pb.FULFILLMENT_STATUS_CANCELLED
    assert reasons(await told(engine, other.id))[-1] == ("StatusChanged", 4, "NO_UNITS_LEFT")


async def test_work_is_given_up(fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine) -> None:
    """Over the wire: cancelled with who and why; a repeat is a success, a second request is refused."""
    its = await planned(operations, {"DOVER": [(1, "mug", 3)]})
    giving_up = asking(api.CancelFulfillmentRequest, str(its.id), note="the hall is flooded", expected_version=2)
    gone = (await ask(fulfillments.CancelFulfillment, giving_up)).fulfillment
    assert (gone.status, gone.picklist[0].quantity, gone.picklist[0].cut_quantity) == (pb.FULFILLMENT_STATUS_CANCELLED, 0, 3)
    assert (await ask(fulfillments.CancelFulfillment, giving_up)).fulfillment == gone
    with pytest.raises(Refused) as caught:
        await ask(fulfillments.CancelFulfillment, asking(api.CancelFulfillmentRequest, str(its.id)))
    assert caught.value.reason == "ILLEGAL_TRANSITION"
    assert reasons(await told(engine))[-1] == ("StatusChanged", 3, "WORK_CANCELLED")
    async with engine.connect() as connection:
        row = (await connection.execute(select(tables.history).where(tables.history.c.new == Status.CANCELLED))).one()
        assert (row.actor, row.note, row.reason) == ("staff", "the hall is flooded", "WORK_CANCELLED")


async def packed(operations: Operations, stock: FakeWarehouse, *, mugs: int = 3, others: int = 0) -> Fulfillment:
    """A fulfilment whose packages wait for their inspector; the warehouse has so many other mugs."""
    stock.held, stock.others = {1: mugs, 2: 1}, {1: others}
    return await worked(operations, await planned(operations, {"DOVER": [(1, "mug", mugs), (2, "cup", 1)]}, total=DEAR), Status.PACKED)


def inspection(its: Fulfillment, spoiled: int = 1, **fields: Any) -> RecordInspection:
    """The inspector finds mugs damaged."""
    return command(RecordInspection, target=its.id, passed=False, note="cracked", spoiled={1: spoiled}, **fields)


@pytest.mark.parametrize(("others", "left"), [(1, (3, 0, 0, 1)), (0, (2, 0, 0, 1))])
async def test_spoiled_units_are_replaced_as_far_as_there_are_others(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, others: int, left: tuple[int, ...]
) -> None:
    """The warehouse is told how many are spoiled in all; the picking starts over with what there is then, once."""
    its = await packed(operations, stock, others=others)
    asked = inspection(its)
    found = await operations.inspect(asked)
    assert found.status is Status.PICKING
    assert await operations.inspect(asked) == found
    assert await units(engine) == {"DOVER": (Status.PICKING, [left, (1, 0, 0, 0)])}
    [request] = stock.replacing
    assert [(line.line_number, line.spoiled_quantity) for line in request.lines] == [(1, 1)]
    assert reasons(await told(engine))[-2:] == [
        ("LinesChanged", its.version + 2, "INSPECTION_FAILED"),
        ("StatusChanged", its.version + 3, "INSPECTION_FAILED"),
    ]
    again = await worked(operations, found, Status.PACKED)
    assert await operations.inspect(asked) == again  # packed anew: the old request is no news of it
    second = await operations.inspect(inspection(again))
    assert [line.spoiled for line in second.lines] == [2, 0]
    assert [line.spoiled_quantity for request in stock.replacing for line in request.lines] == [1, 2]


async def test_spoiled_units_over_the_wire(fulfillments: Fulfillments, operations: Operations, stock: FakeWarehouse) -> None:
    """The request names lines and units; packages with spoiled units cannot pass, and no more units spoil than there are."""
    its = await packed(operations, stock)

    async def refused(**fields: Any) -> Failure:
        with pytest.raises(Failure) as caught:
            await ask(fulfillments.RecordInspection, asking(api.RecordInspectionRequest, str(its.id), **fields))
        return caught.value

    spoiled = [api.SpoiledUnits(line_number=1, quantity=1)]
    assert isinstance(await refused(passed=True, spoiled=spoiled), Invalid)
    assert (await refused(spoiled=[api.SpoiledUnits(line_number=1, quantity=4)])).reason == "QUANTITY_EXCEEDS_PICKLIST"
    assert (await refused(spoiled=spoiled, expected_version=1)).reason == "VERSION_MISMATCH"
    assert stock.replacing == []
    request = asking(api.RecordInspectionRequest, str(its.id), spoiled=spoiled, note="cracked", expected_version=its.version)
    found = (await ask(fulfillments.RecordInspection, request)).fulfillment
    assert (found.status, found.picklist[0].quantity, found.picklist[0].spoiled_quantity) == (pb.FULFILLMENT_STATUS_PICKING, 2, 1)
    assert (await pick_again(fulfillments, found)).status == pb.FULFILLMENT_STATUS_PICKED


async def pick_again(service: Fulfillments, its: pb.Fulfillment) -> pb.Fulfillment:
    """From picking to picked."""
    scans = [api.Scan(sku=line.sku, quantity=line.quantity) for line in its.picklist]
    await ask(service.ScanItem, asking(api.ScanItemRequest, its.fulfillment_id, scans=scans))
    return (await ask(service.CompletePicking, asking(api.CompletePickingRequest, its.fulfillment_id))).fulfillment


def passing(its: Fulfillment) -> RecordInspection:
    """The inspector finds all in order."""
    return command(RecordInspection, target=its.id, passed=True, note="")


NEXT: dict[str, Callable[[Fulfillment], RecordInspection]] = {
    "passed": passing,
    "failed": lambda its: replace(inspection(its), spoiled={}),
    "spoiled": inspection,
}


@pytest.mark.parametrize("booked", [True, False])
@pytest.mark.parametrize("what", ["repeated", *NEXT])
@pytest.mark.parametrize(("others", "left"), [(1, (3, 0, 0, 1)), (0, (2, 0, 0, 1))])
async def test_an_inspection_that_broke_off_is_ended_by_the_next(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, others: int, left: tuple[int, ...], what: str, booked: bool
) -> None:
    """The warehouse was asked, and its answer is lost, or the question was: the repeat, or whoever inspects next, whatever he finds, has
    the units booked once and everything packed anew with what there is; then it passes.
    """
    its = await packed(operations, stock, others=others)
    asked = inspection(its)
    stock.lost = "answer" if booked else "question"
    with pytest.raises(Deferred):
        await operations.inspect(asked)
    stock.lost = ""
    assert stock.spoiled == ({1: 1} if booked else {})
    following = asked if what == "repeated" else NEXT[what](its)
    found = await operations.inspect(following)
    assert await operations.inspect(following) == await operations.inspect(asked) == found
    assert await units(engine) == {"DOVER": (Status.PICKING, [left, (1, 0, 0, 0)])}
    assert (stock.spoiled, stock.replacing[0]) == ({1: 1}, stock.replacing[-1])
    again = await worked(operations, found, Status.PACKED)
    assert await operations.inspect(asked) == again
    assert (await operations.inspect(passing(again))).status is Status.READY


async def test_an_inspections_request_id_stands_for_one_finding(operations: Operations, stock: FakeWarehouse) -> None:
    """The id of an inspection that is done, with spoiled units or with others, is refused before the warehouse is asked."""
    its = await packed(operations, stock)
    plain = replace(inspection(its), spoiled={})
    await operations.inspect(plain)
    other = replace(inspection(its), key=plain.key, digest=b"another")
    with pytest.raises(Invalid) as caught:
        await operations.inspect(other)
    assert (caught.value.reason, stock.replacing) == ("REQUEST_ID_REUSED", [])


async def test_without_the_warehouse_nothing_spoils(
    operations: Operations, stock: FakeWarehouse, warehouse_peer: Peer, eventually: Eventually
) -> None:
    """It cannot be asked what comes in their place: not now, and nothing else passes or fails meanwhile; packages without spoiled units
    need no warehouse.
    """
    its = await packed(operations, stock)
    await warehouse_peer.down()
    for what in inspection(its), passing(its), replace(inspection(its), spoiled={}):
        with pytest.raises(Deferred):
            await operations.inspect(what)
    assert (await operations.get_fulfillment(its.id)).status is Status.PACKED
    await warehouse_peer.up()

    async def reached() -> Fulfillment | None:
        with suppress(Deferred):
            return await operations.inspect(passing(its))
        return None

    again = await worked(operations, await eventually(reached), Status.PACKED)
    await warehouse_peer.down()
    assert (await operations.inspect(passing(again))).status is Status.READY


Meanwhile = Callable[[Operations, Fulfillment], Any]
MEANWHILE: dict[str, tuple[Meanwhile, Units]] = {
    "a cut": (
        lambda o, f: o.follow_orders([lost(f.work.order_id, {"DOVER": [(1, "mug", 2), (2, "cup", 1)]})]),
        {"DOVER": (Status.PACKING, [(2, 0, 0, 1), (1, 0, 0, 0)])},
    ),
    "a death": (
        lambda o, f: o.follow_orders([cancelled(f.work.order_id)]),
        {"DOVER": (Status.CANCELLED, [(0, 2, 0, 1), (0, 1, 0, 0)])},
    ),
    "given up": (
        lambda o, f: o.change(command(GiveUp, target=f.id, note="")),
        {"DOVER": (Status.CANCELLED, [(0, 2, 0, 1), (0, 1, 0, 0)])},
    ),
    "passed": (
        lambda o, f: o.inspect(passing(f)),
        {"DOVER": (Status.PICKING, [(2, 0, 0, 1), (1, 0, 0, 0)])},
    ),
}


@pytest.mark.parametrize("what", MEANWHILE)
async def test_what_happens_while_the_warehouse_is_asked(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, what: str
) -> None:
    """The warehouse has booked a spoiled unit when the fulfilment is changed: it is written all the same, and each unit has its place. (A
    unit that is cut in that moment is the spoiled one.)
    """
    its = await packed(operations, stock)
    happens, left = MEANWHILE[what]

    async def once() -> None:
        stock.meanwhile = None
        await happens(operations, its)

    stock.meanwhile = once
    await operations.inspect(inspection(its))
    assert await units(engine) == left
    last = (await told(engine))[-1].fulfillment.picklist
    assert [(line.quantity, line.cut_quantity, line.short_quantity, line.spoiled_quantity) for line in last] == left["DOVER"][1]


async def test_pick_goes_on_after_a_cut(fulfillments: Fulfillments, operations: Operations) -> None:
    """A line of which nothing stays needs no scan and no package."""
    its = await planned(operations, {"DOVER": [(1, "mug", 3), (2, "cup", 1)]})
    await operations.follow_orders([lost(its.work.order_id, {"DOVER": [(1, "mug", 3)]})])
    work = (await ask(fulfillments.GetFulfillment, api.GetFulfillmentRequest(fulfillment_id=str(its.id)))).fulfillment
    assert (await pack(fulfillments, await pick(fulfillments, work))).status == pb.FULFILLMENT_STATUS_READY
