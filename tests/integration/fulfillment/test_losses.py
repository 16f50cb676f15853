"""Orders that lose units, on a real database: in every order of events, repeated and concurrent."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from ordermesh.warehouse.v1.reservation_service_pb2 import ReservationFailure
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure, Refused
from chassis.values.money import Money
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status, WithdrawReason
from fulfillment_svc.model.commands import OrderEvent, Scan, ScanItems, StartPicking
from fulfillment_svc.model.records import VoidLabel
from tests.integration.fulfillment.events import Places, cancelled, confirmed, lost, shipped, voided
from tests.integration.fulfillment.peers import FakeShipping, FakeWarehouse
from tests.integration.fulfillment.working import (
    EXPENSIVE,
    Units,
    packing,
    planned,
    published,
    reasons,
    units,
    worked,
)
from tests.unit.fulfillment.samples import changed, envelope

# 3 mugs of DOVER and 2 of LEEDS; then a unit of DOVER is cancelled, then all of LEEDS.
WHOLE: Places = {"DOVER": [(1, "mug", 3), (2, "cup", 1)], "LEEDS": [(1, "mug", 2)]}
LESS: Places = {"DOVER": [(1, "mug", 2), (2, "cup", 1)], "LEEDS": [(1, "mug", 2)]}
LEAST: Places = {"DOVER": [(1, "mug", 2), (2, "cup", 1)]}


# --- units that the order loses

EVENTS: dict[str, Callable[[UUID], Envelope[OrderEvent]]] = {
    "confirmed": lambda id: confirmed(id, WHOLE),
    "less": lambda id: lost(id, LESS, version=3),
    "least": lambda id: lost(id, LEAST, version=4),
    "cancelled": lambda id: cancelled(id, LEAST, version=5),
}


@pytest.mark.parametrize("names", list(permutations(["confirmed", "less", "least"])), ids="-".join)
async def test_cuts_in_any_order_leave_the_same_tables(
    operations: Operations, engine: AsyncEngine, order_id: UUID, names: tuple[str, ...]
) -> None:
    """In any order, repeated and in one set, the remaining units are picked. The other units are
    cut and published once.
    """
    for name in (*names, *names):
        [outcome] = await operations.orders.apply_order_events([EVENTS[name](order_id)])
        assert isinstance(outcome, Done)
    expected: Units = {
        "DOVER": (Status.PLANNING, [(2, 1, 0, 0), (1, 0, 0, 0)]),
        "LEEDS": (Status.CANCELLED, [(0, 2, 0, 0)]),
    }
    assert await units(engine) == expected
    last = {each.fulfillment.warehouse_id: each.fulfillment for each in await published(engine)}
    assert {
        at: [(line.quantity, line.cut_quantity) for line in fulfillment.picklist]
        for at, fulfillment in last.items()
    } == {
        "DOVER": [(2, 1), (1, 0)],
        "LEEDS": [(0, 2)],
    }
    other = uuid4()
    await operations.orders.apply_order_events([EVENTS[name](other) for name in names])
    assert await units(engine) == expected


@pytest.mark.parametrize("names", list(permutations(EVENTS)), ids="-".join)
async def test_cancellation_with_cuts_in_every_order(
    operations: Operations, engine: AsyncEngine, order_id: UUID, names: tuple[str, ...]
) -> None:
    """Every fulfilment is cancelled, and each committed unit is published as cut, so that the
    warehouse has them all back.
    """
    for name in (*names, names[0]):
        [outcome] = await operations.orders.apply_order_events([EVENTS[name](order_id)])
        assert isinstance(outcome, Done)
    assert await units(engine) == {
        "DOVER": (Status.CANCELLED, [(0, 3, 0, 0), (0, 1, 0, 0)]),
        "LEEDS": (Status.CANCELLED, [(0, 2, 0, 0)]),
    }
    last = {each.fulfillment.warehouse_id: each.fulfillment for each in await published(engine)}
    assert {
        at: [line.cut_quantity for line in fulfillment.picklist] for at, fulfillment in last.items()
    } == {
        "DOVER": [3, 1],
        "LEEDS": [2],
    }


@pytest.mark.parametrize("until", [Status.PACKED, Status.READY])
async def test_a_cut_opens_the_packages(
    operations: Operations, engine: AsyncEngine, until: Status
) -> None:
    """Packed and ready fulfilments go back to packing, published as lines and then as the status.
    The packer packs the remaining units.

    A ready fulfilment keeps all its units until its label is void.
    """
    total = EXPENSIVE if until is Status.PACKED else Money(10_00, "GBP")
    fulfillment = await worked(
        operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}, total=total), until
    )
    await operations.orders.apply_order_events(
        [lost(fulfillment.key.order_id, {"DOVER": [(1, "mug", 2)]})]
    )
    if until is Status.READY:
        waiting = await operations.reading.get_fulfillment(fulfillment.id)
        assert (waiting.status, waiting.lines, waiting.withdraw_reason) == (
            Status.READY,
            fulfillment.lines,
            WithdrawReason.UNITS_CUT,
        )
        assert reasons(await published(engine))[-1] == (
            "LinesChanged",
            fulfillment.version + 1,
            "WITHDRAWN",
        )
        [outcome] = await operations.writer.write([voided(fulfillment.id)])
        assert isinstance(outcome, Done)
        fulfillment = waiting
    cut = await operations.reading.get_fulfillment(fulfillment.id)
    assert (
        cut.status,
        cut.packages,
        [(line.quantity, line.picked, line.cut) for line in cut.lines],
    ) == (Status.PACKING, (), [(2, 2, 1)])
    assert reasons(await published(engine))[-2:] == [
        ("LinesChanged", fulfillment.version + 1, "UNITS_CUT"),
        ("StatusChanged", fulfillment.version + 2, "UNITS_CUT"),
    ]
    assert (await operations.staff.change(packing(cut))).status is until


MUGS: Places = {"DOVER": [(1, "mug", 3)]}
FEWER: Places = {"DOVER": [(1, "mug", 2)]}


async def test_label_bought_during_a_cut_waits_for_its_void(
    operations: Operations, engine: AsyncEngine
) -> None:
    """The label is bought while a unit is cut: the shipment is stored, and no unit ships by it.

    Once the label is void, late events of it change nothing. Where its parcels shipped all the
    same, their units are published once.
    """
    fulfillment = await worked(operations, await planned(operations, MUGS), Status.READY)
    await operations.orders.apply_order_events([lost(fulfillment.key.order_id, FEWER)])
    before = await published(engine, fulfillment.id)
    for outcome in await operations.writer.write(
        [shipped(fulfillment.id), shipped(fulfillment.id)]
    ):
        assert isinstance(outcome, Done)
    waiting = await operations.reading.get_fulfillment(fulfillment.id)
    assert (waiting.status, waiting.shipment_id) == (
        Status.READY,
        shipped(fulfillment.id).command.shipment_id,
    )
    assert await published(engine, fulfillment.id) == before
    await operations.writer.write([voided(fulfillment.id)])
    opened = await operations.reading.get_fulfillment(fulfillment.id)
    assert (opened.status, opened.shipment_id) == (Status.PACKING, None)
    assert opened.void_labels == (VoidLabel(shipped(fulfillment.id).command.shipment_id, {1: 3}),)
    late = replace(
        changed(shipped(fulfillment.id), fulfillment_version=fulfillment.version), key="late"
    )
    gone = replace(changed(voided(fulfillment.id), shipped=True), key="gone")
    for outcome in await operations.writer.write([late, gone, replace(gone, key="gone again")]):
        assert isinstance(outcome, Done)
    after = await operations.reading.get_fulfillment(fulfillment.id)
    assert (after.status, after.void_labels) == (
        Status.PACKING,
        (replace(opened.void_labels[0], shipped=True),),
    )
    assert [reason for _, _, reason in reasons(await published(engine, fulfillment.id))].count(
        "SHIPPED_AFTER_VOID"
    ) == 1
    ready = await operations.staff.change(packing(after))
    another = changed(
        shipped(fulfillment.id), shipment_id=uuid4(), fulfillment_version=ready.version
    )
    [outcome] = await operations.writer.write([replace(another, key="next")])
    assert (await operations.reading.get_fulfillment(fulfillment.id)).status is Status.SHIPPED


async def test_withdrawn_parcels_that_left_ship_all_units(
    operations: Operations, engine: AsyncEngine
) -> None:
    """The carrier has the parcels before the void: the fulfilment has shipped with the cut unit,
    and the cut comes too late.
    """
    fulfillment = await worked(operations, await planned(operations, MUGS), Status.READY)
    await operations.orders.apply_order_events([lost(fulfillment.key.order_id, FEWER)])
    await operations.writer.write([changed(shipped(fulfillment.id), shipped=True)])
    assert await units(engine) == {"DOVER": (Status.SHIPPED, [(3, 0, 0, 0)])}
    assert (await operations.reading.get_fulfillment(fulfillment.id)).withdraw_reason is None


async def test_repacked_fulfilment_sends_a_new_request(
    operations: Operations, carriage: FakeShipping
) -> None:
    """A fulfilment becomes ready, is cut, and becomes ready again with other parcels. It sends a
    new request with a greater version; a repeat sends that same request.
    """
    fulfillment = await worked(operations, await planned(operations, MUGS), Status.READY)
    await operations.orders.apply_order_events([lost(fulfillment.key.order_id, FEWER)])
    await operations.writer.write([voided(fulfillment.id)])
    again = packing(await operations.reading.get_fulfillment(fulfillment.id))
    for _ in range(2):
        await operations.staff.change(again)
    first, second, repeated = carriage.requests
    assert second == repeated
    assert first.request_id != second.request_id
    assert (
        first.fulfillment_version
        < second.fulfillment_version
        == (await operations.reading.get_fulfillment(fulfillment.id)).version
    )


async def test_cut_after_the_shipment_is_ignored(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A cut after the shipment changes and publishes nothing: the order service sees from the
    shipment that too many units left.
    """
    fulfillment = await worked(
        operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.READY
    )
    await operations.writer.write([shipped(fulfillment.id)])
    before = len(await published(engine))
    [outcome] = await operations.orders.apply_order_events(
        [lost(fulfillment.key.order_id, {"DOVER": [(1, "mug", 1)]})]
    )
    assert isinstance(outcome, Done)
    assert await units(engine) == {"DOVER": (Status.SHIPPED, [(3, 0, 0, 0)])}
    assert len(await published(engine)) == before


async def test_scans_during_cuts_stay_within_remaining_units(
    operations: Operations, engine: AsyncEngine
) -> None:
    """Five scanners and two cuts run at once, six times. A scan is counted or refused, and never
    exceeds the remaining units.
    """
    for _ in range(6):
        new = await planned(operations, {"DOVER": [(1, "mug", 5)]})
        fulfillment = await operations.staff.change(envelope(StartPicking, target=new.id))
        scan = (Scan("mug", 1),)
        scanned = [envelope(ScanItems, target=fulfillment.id, scans=scan) for _ in range(5)]
        scans = [operations.staff.change(each) for each in scanned]
        cuts = [
            operations.orders.apply_order_events(
                [lost(fulfillment.key.order_id, {"DOVER": [(1, "mug", stays)]}, version=v)]
            )
            for stays, v in [(3, 4), (4, 3)]
        ]
        outcomes = await asyncio.gather(*scans[:3], *cuts, *scans[3:], return_exceptions=True)
        assert all(
            each.reason == "QUANTITY_EXCEEDS_PICKLIST"
            for each in outcomes
            if isinstance(each, Failure)
        )
        assert not [
            each
            for each in outcomes
            if isinstance(each, Exception) and not isinstance(each, Refused)
        ]
        [line] = (await operations.reading.get_fulfillment(fulfillment.id)).lines
        assert (line.quantity, line.picked, line.cut) == (3, 3, 2)
        last = (await published(engine, fulfillment.id))[-1].fulfillment.picklist[0]
        assert (last.quantity, last.cut_quantity) == (3, 2)


async def test_cut_during_packing_leaves_remaining_units_unpacked(operations: Operations) -> None:
    """Packing and a cut run at once. If the packing is first, the packages are withdrawn and opened
    again. If the cut is first, the packages do not match the remaining units.
    """
    won = set()
    for n in range(10):
        fulfillment = await worked(
            operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.PACKING
        )
        race = [
            operations.staff.change(packing(fulfillment)),
            operations.orders.apply_order_events(
                [lost(fulfillment.key.order_id, {"DOVER": [(1, "mug", 2)]})]
            ),
        ]
        outcomes = await asyncio.gather(*(race if n % 2 else race[::-1]), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert all(
            isinstance(each, Refused) and each.reason == "PACKAGES_INCOMPLETE" for each in refused
        )
        won.add(bool(refused))
        if not refused:
            assert (
                await operations.reading.get_fulfillment(fulfillment.id)
            ).withdraw_reason is WithdrawReason.UNITS_CUT
            await operations.writer.write([voided(fulfillment.id)])
        cut = await operations.reading.get_fulfillment(fulfillment.id)
        assert (
            cut.status,
            cut.packages,
            [(line.quantity, line.picked, line.cut) for line in cut.lines],
        ) == (
            Status.PACKING,
            (),
            [(2, 2, 1)],
        )
    assert won


async def test_cancellation_while_work_becomes_ready(
    operations: Operations, engine: AsyncEngine
) -> None:
    """The last package is closed while the order is cancelled. In either order, the fulfilment is
    cancelled once its label is void, and its units are published as cut once.
    """
    for n in range(10):
        fulfillment = await worked(
            operations, await planned(operations, {"DOVER": [(1, "mug", 3)]}), Status.PACKING
        )
        race = [
            operations.staff.change(packing(fulfillment)),
            operations.orders.apply_order_events(
                [cancelled(fulfillment.key.order_id, {"DOVER": [(1, "mug", 3)]})]
            ),
        ]
        outcomes = await asyncio.gather(*(race if n % 2 else race[::-1]), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert all(
            isinstance(each, Refused) and each.reason == "ILLEGAL_TRANSITION" for each in refused
        )
        if not refused:
            assert (
                await operations.reading.get_fulfillment(fulfillment.id)
            ).withdraw_reason is WithdrawReason.ORDER_CANCELLED
            await operations.writer.write([voided(fulfillment.id)])
        closed = await operations.reading.get_fulfillment(fulfillment.id)
        assert (closed.status, [(line.quantity, line.cut) for line in closed.lines]) == (
            Status.CANCELLED,
            [(0, 3)],
        )
        assert [each.fulfillment.version for each in await published(engine, fulfillment.id)][
            -1
        ] == closed.version


async def test_stock_moved_during_cancellation_is_cut(
    operations: Operations, engine: AsyncEngine, order_id: UUID, stock: FakeWarehouse
) -> None:
    """The order is cancelled while the worker requests a pending commit, and the answer names an
    unknown warehouse.

    No work starts there, and its units are published as cut.
    """
    stock.refused = {str(order_id): ReservationFailure(reason="CONTENTION", retryable=True)}
    await operations.orders.apply_order_events([confirmed(order_id, commit_pending=True)])
    stock.lines_by_warehouse = {str(order_id): {"YORK": [(1, "mug", 2), (2, "Lamp, blue", 1)]}}

    async def cancels() -> None:
        stock.meanwhile = None
        await operations.orders.apply_order_events([cancelled(order_id)])

    stock.meanwhile = cancels
    await operations.commits.commit_pending_stock()
    closed = (Status.CANCELLED, [(0, 2, 0, 0), (0, 1, 0, 0)])
    assert await units(engine) == {"DOVER": closed, "YORK": closed}
