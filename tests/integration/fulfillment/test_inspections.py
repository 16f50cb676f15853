"""Inspectors find units damaged: each is posted once and replaced as far as the warehouse has
others.

Crashes, repeats and concurrent changes do not change that.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, Invalid
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import CancelFulfillment, RecordInspection
from fulfillment_svc.model.records import Fulfillment
from tests.integration.fulfillment.events import cancelled, lost
from tests.integration.fulfillment.peers import FakeWarehouse, Peer
from tests.integration.fulfillment.requests import Fulfillments, asking
from tests.integration.fulfillment.working import (
    EXPENSIVE,
    Units,
    planned,
    published,
    reasons,
    units,
    worked,
)
from tests.support import Eventually
from tests.unit.fulfillment.samples import changed, envelope


async def packed(
    operations: Operations, stock: FakeWarehouse, *, mugs: int = 3, others: int = 0
) -> Fulfillment:
    """Returns a fulfilment whose packages wait for inspection; the warehouse has `others` other
    mugs.
    """
    stock.held, stock.others = {1: mugs, 2: 1}, {1: others}
    return await worked(
        operations,
        await planned(operations, {"DOVER": [(1, "mug", mugs), (2, "cup", 1)]}, total=EXPENSIVE),
        Status.PACKED,
    )


def inspection(
    fulfillment: Fulfillment, spoiled: int = 1, **fields: Any
) -> Envelope[RecordInspection]:
    """Returns an inspection that finds mugs damaged."""
    return envelope(
        RecordInspection,
        target=fulfillment.id,
        passed=False,
        note="cracked",
        spoiled={1: spoiled},
        **fields,
    )


@pytest.mark.parametrize(("others", "remaining"), [(1, (3, 0, 0, 1)), (0, (2, 0, 0, 1))])
async def test_spoiled_units_are_replaced_by_available_ones(
    operations: Operations,
    engine: AsyncEngine,
    stock: FakeWarehouse,
    others: int,
    remaining: tuple[int, ...],
) -> None:
    """The request has the total number of spoiled units. The picking starts again once, with the
    units that are available then.
    """
    fulfillment = await packed(operations, stock, others=others)
    asked = inspection(fulfillment)
    found = await operations.inspections.inspect(asked)
    assert found.status is Status.PICKING
    assert await operations.inspections.inspect(asked) == found
    assert await units(engine) == {"DOVER": (Status.PICKING, [remaining, (1, 0, 0, 0)])}
    [request] = stock.replacing
    assert [(line.line_number, line.spoiled_quantity) for line in request.lines] == [(1, 1)]
    assert reasons(await published(engine))[-2:] == [
        ("LinesChanged", fulfillment.version + 2, "INSPECTION_FAILED"),
        ("StatusChanged", fulfillment.version + 3, "INSPECTION_FAILED"),
    ]
    again = await worked(operations, found, Status.PACKED)
    # packed again: the old request changes nothing
    assert await operations.inspections.inspect(asked) == again
    second = await operations.inspections.inspect(inspection(again))
    assert [line.spoiled for line in second.lines] == [2, 0]
    assert [line.spoiled_quantity for request in stock.replacing for line in request.lines] == [
        1,
        2,
    ]


async def test_spoiled_units_over_the_wire(
    fulfillments: Fulfillments, operations: Operations, stock: FakeWarehouse
) -> None:
    """The request names lines and units. Packages with spoiled units cannot pass, and only packed
    units can spoil.
    """
    fulfillment = await packed(operations, stock)

    async def refused(**fields: Any) -> Failure:
        with pytest.raises(Failure) as caught:
            await ask(
                fulfillments.RecordInspection,
                asking(api.RecordInspectionRequest, str(fulfillment.id), **fields),
            )
        return caught.value

    spoiled = [api.SpoiledUnits(line_number=1, quantity=1)]
    assert isinstance(await refused(passed=True, spoiled=spoiled), Invalid)
    assert (
        await refused(spoiled=[api.SpoiledUnits(line_number=1, quantity=4)])
    ).reason == "QUANTITY_EXCEEDS_PICKLIST"
    assert (await refused(spoiled=spoiled, expected_version=1)).reason == "VERSION_MISMATCH"
    assert stock.replacing == []
    request = asking(
        api.RecordInspectionRequest,
        str(fulfillment.id),
        spoiled=spoiled,
        note="cracked",
        expected_version=fulfillment.version,
    )
    found = (await ask(fulfillments.RecordInspection, request)).fulfillment
    assert (found.status, found.picklist[0].quantity, found.picklist[0].spoiled_quantity) == (
        pb.FULFILLMENT_STATUS_PICKING,
        2,
        1,
    )
    assert (await pick_again(fulfillments, found)).status == pb.FULFILLMENT_STATUS_PICKED


async def pick_again(service: Fulfillments, fulfillment: pb.Fulfillment) -> pb.Fulfillment:
    """Moves a fulfilment from picking to picked."""
    scans = [api.Scan(sku=line.sku, quantity=line.quantity) for line in fulfillment.picklist]
    await ask(
        service.ScanItem, asking(api.ScanItemRequest, fulfillment.fulfillment_id, scans=scans)
    )
    return (
        await ask(
            service.CompletePicking, asking(api.CompletePickingRequest, fulfillment.fulfillment_id)
        )
    ).fulfillment


def passing(fulfillment: Fulfillment) -> Envelope[RecordInspection]:
    """Returns an inspection that passes all packages."""
    return envelope(RecordInspection, target=fulfillment.id, passed=True, note="")


NEXT: dict[str, Callable[[Fulfillment], Envelope[RecordInspection]]] = {
    "passed": passing,
    "failed": lambda fulfillment: changed(inspection(fulfillment), spoiled={}),
    "spoiled": inspection,
}


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize("what", ["repeated", *NEXT])
@pytest.mark.parametrize(("others", "remaining"), [(1, (3, 0, 0, 1)), (0, (2, 0, 0, 1))])
async def test_next_inspection_completes_an_interrupted_one(
    operations: Operations,
    engine: AsyncEngine,
    stock: FakeWarehouse,
    others: int,
    remaining: tuple[int, ...],
    what: str,
    posted: bool,
) -> None:
    """The call to the warehouse loses its request or its answer. The repeat, or the next inspection
    with any result, posts the units once.

    The fulfilment is packed again with the available units, and then passes.
    """
    fulfillment = await packed(operations, stock, others=others)
    asked = inspection(fulfillment)
    stock.lost = "answer" if posted else "question"
    with pytest.raises(Deferred):
        await operations.inspections.inspect(asked)
    stock.lost = ""
    assert stock.spoiled == ({1: 1} if posted else {})
    following = asked if what == "repeated" else NEXT[what](fulfillment)
    found = await operations.inspections.inspect(following)
    assert (
        await operations.inspections.inspect(following)
        == await operations.inspections.inspect(asked)
        == found
    )
    assert await units(engine) == {"DOVER": (Status.PICKING, [remaining, (1, 0, 0, 0)])}
    assert (stock.spoiled, stock.replacing[0]) == ({1: 1}, stock.replacing[-1])
    again = await worked(operations, found, Status.PACKED)
    assert await operations.inspections.inspect(asked) == again
    assert (await operations.inspections.inspect(passing(again))).status is Status.READY


async def test_request_id_of_an_inspection_belongs_to_one_result(
    operations: Operations, stock: FakeWarehouse
) -> None:
    """The request_id of a completed inspection is refused for any other, with or without spoiled
    units, before the warehouse is called.
    """
    fulfillment = await packed(operations, stock)
    plain = changed(inspection(fulfillment), spoiled={})
    await operations.inspections.inspect(plain)
    other = replace(inspection(fulfillment), key=plain.key, request_hash=b"another")
    with pytest.raises(Invalid) as caught:
        await operations.inspections.inspect(other)
    assert (caught.value.reason, stock.replacing) == ("REQUEST_ID_REUSED", [])


async def test_found_units_are_stored_under_the_step_spoiled(
    operations: Operations,
    engine: AsyncEngine,
    stock: FakeWarehouse,
) -> None:
    """An inspection with spoiled units has two writes: `<key>:spoiled`, then `<key>`.

    A repeat of an inspection that an earlier release began finds its step by this key.
    """
    asked = inspection(await packed(operations, stock))
    await operations.inspections.inspect(asked)
    keys = tables.idempotency_keys.c
    query = select(keys.key, keys.request_hash, keys.target).where(keys.key.startswith(asked.key))
    async with engine.connect() as connection:
        rows = [tuple(row) for row in await connection.execute(query.order_by(keys.key))]
    assert rows == [
        (asked.key, asked.request_hash, asked.target),
        (f"{asked.key}:spoiled", asked.request_hash, asked.target),
    ]


async def test_spoiled_units_wait_for_the_warehouse(
    operations: Operations, stock: FakeWarehouse, warehouse_peer: Peer, eventually: Eventually
) -> None:
    """Each inspection of the fulfilment is deferred until the warehouse answers the one with
    spoiled units.

    Packages without spoiled units pass without the warehouse.
    """
    fulfillment = await packed(operations, stock)
    await warehouse_peer.down()
    for what in (
        inspection(fulfillment),
        passing(fulfillment),
        changed(inspection(fulfillment), spoiled={}),
    ):
        with pytest.raises(Deferred):
            await operations.inspections.inspect(what)
    assert (await operations.reading.get_fulfillment(fulfillment.id)).status is Status.PACKED
    await warehouse_peer.up()

    async def reached() -> Fulfillment | None:
        with suppress(Deferred):
            return await operations.inspections.inspect(passing(fulfillment))
        return None

    again = await worked(operations, await eventually(reached), Status.PACKED)
    await warehouse_peer.down()
    assert (await operations.inspections.inspect(passing(again))).status is Status.READY


Meanwhile = Callable[[Operations, Fulfillment], Any]
MEANWHILE: dict[str, tuple[Meanwhile, Units]] = {
    "a cut": (
        lambda o, f: o.orders.apply_order_events(
            [lost(f.key.order_id, {"DOVER": [(1, "mug", 2), (2, "cup", 1)]})]
        ),
        {"DOVER": (Status.PACKING, [(2, 0, 0, 1), (1, 0, 0, 0)])},
    ),
    "order cancelled": (
        lambda o, f: o.orders.apply_order_events([cancelled(f.key.order_id)]),
        {"DOVER": (Status.CANCELLED, [(0, 2, 0, 1), (0, 1, 0, 0)])},
    ),
    "cancelled by the staff": (
        lambda o, f: o.staff.change(envelope(CancelFulfillment, target=f.id, note="")),
        {"DOVER": (Status.CANCELLED, [(0, 2, 0, 1), (0, 1, 0, 0)])},
    ),
    "passed": (
        lambda o, f: o.inspections.inspect(passing(f)),
        {"DOVER": (Status.PICKING, [(2, 0, 0, 1), (1, 0, 0, 0)])},
    ),
}


@pytest.mark.parametrize("what", MEANWHILE)
async def test_change_during_the_warehouse_call_loses_no_unit(
    operations: Operations, engine: AsyncEngine, stock: FakeWarehouse, what: str
) -> None:
    """The fulfilment changes after the warehouse has posted a spoiled unit. The result is stored,
    and each unit is counted in one place.

    Where a unit is cut at that moment, it is the spoiled one.
    """
    fulfillment = await packed(operations, stock)
    happens, remaining = MEANWHILE[what]

    async def once() -> None:
        stock.meanwhile = None
        await happens(operations, fulfillment)

    stock.meanwhile = once
    await operations.inspections.inspect(inspection(fulfillment))
    assert await units(engine) == remaining
    last = (await published(engine))[-1].fulfillment.picklist
    assert [
        (line.quantity, line.cut_quantity, line.short_quantity, line.spoiled_quantity)
        for line in last
    ] == remaining["DOVER"][1]
