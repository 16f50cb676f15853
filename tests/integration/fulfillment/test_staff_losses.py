"""Units that the staff do not find, and work that they cancel, on a real database."""

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Refused
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from tests.integration.fulfillment.events import lost
from tests.integration.fulfillment.peers import FakeShipping
from tests.integration.fulfillment.requests import Fulfillments, asking, pack, pick
from tests.integration.fulfillment.working import (
    planned,
    published,
    reasons,
)


async def test_a_line_is_closed_short(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine
) -> None:
    """Over gRPC: units that are not found leave the picklist, and a repeat of the request has no
    further effect.

    A fulfilment without any found unit is cancelled.
    """
    fulfillment = await planned(operations, {"DOVER": [(1, "mug", 3), (2, "cup", 1)]})
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, str(fulfillment.id)))
    await ask(
        fulfillments.ScanItem,
        asking(api.ScanItemRequest, str(fulfillment.id), scans=[api.Scan(sku="mug", quantity=2)]),
    )
    closing = asking(api.CompletePickingRequest, str(fulfillment.id), short_line_numbers=[1, 2])
    picked = (await ask(fulfillments.CompletePicking, closing)).fulfillment
    assert picked.status == pb.FULFILLMENT_STATUS_PICKED
    assert [
        (line.quantity, line.picked_quantity, line.short_quantity) for line in picked.picklist
    ] == [(2, 2, 1), (0, 0, 1)]
    assert (await ask(fulfillments.CompletePicking, closing)).fulfillment == picked
    assert reasons(await published(engine))[-2:] == [
        ("LinesChanged", 5, "SHORT_PICK"),
        ("StatusChanged", 6, "PICKING_COMPLETED"),
    ]
    assert (await pack(fulfillments, picked)).status == pb.FULFILLMENT_STATUS_READY

    other = await planned(operations, {"DOVER": [(1, "mug", 3)]})
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, str(other.id)))
    none = await ask(
        fulfillments.CompletePicking,
        asking(api.CompletePickingRequest, str(other.id), short_line_numbers=[1]),
    )
    assert none.fulfillment.status == pb.FULFILLMENT_STATUS_CANCELLED
    assert reasons(await published(engine, other.id))[-1] == (
        "StatusChanged",
        4,
        "NO_UNITS_REMAINING",
    )


async def test_cancelled_ready_fulfilment_asks_for_no_shipment(
    fulfillments: Fulfillments, operations: Operations, carriage: FakeShipping
) -> None:
    """The cancellation of a ready fulfilment withdraws it, and buys no label that the withdrawal
    would void.
    """
    fulfillment = await planned(operations, {"DOVER": [(1, "mug", 1)]})
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, str(fulfillment.id)))
    await ask(
        fulfillments.ScanItem,
        asking(api.ScanItemRequest, str(fulfillment.id), scans=[api.Scan(sku="mug", quantity=1)]),
    )
    picked = (
        await ask(
            fulfillments.CompletePicking, asking(api.CompletePickingRequest, str(fulfillment.id))
        )
    ).fulfillment
    await pack(fulfillments, picked)
    before = len(carriage.requests)
    closed = (
        await ask(
            fulfillments.CancelFulfillment,
            asking(api.CancelFulfillmentRequest, str(fulfillment.id)),
        )
    ).fulfillment
    assert (closed.status, closed.withdraw_reason) == (
        pb.FULFILLMENT_STATUS_READY,
        "CANCEL_REQUESTED",
    )
    assert len(carriage.requests) == before


async def test_cancel_fulfillment_over_grpc(
    fulfillments: Fulfillments, operations: Operations, engine: AsyncEngine
) -> None:
    """Over gRPC: the cancelled fulfilment has its actor and reason. A repeat is a success; a second
    request is refused.
    """
    fulfillment = await planned(operations, {"DOVER": [(1, "mug", 3)]})
    giving_up = asking(
        api.CancelFulfillmentRequest,
        str(fulfillment.id),
        note="the hall is flooded",
        expected_version=2,
    )
    closed = (await ask(fulfillments.CancelFulfillment, giving_up)).fulfillment
    assert (closed.status, closed.picklist[0].quantity, closed.picklist[0].cut_quantity) == (
        pb.FULFILLMENT_STATUS_CANCELLED,
        0,
        3,
    )
    assert (await ask(fulfillments.CancelFulfillment, giving_up)).fulfillment == closed
    with pytest.raises(Refused) as caught:
        await ask(
            fulfillments.CancelFulfillment,
            asking(api.CancelFulfillmentRequest, str(fulfillment.id)),
        )
    assert caught.value.reason == "ILLEGAL_TRANSITION"
    assert reasons(await published(engine))[-1] == ("StatusChanged", 3, "CANCEL_REQUESTED")
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                select(tables.history).where(tables.history.c.new == Status.CANCELLED)
            )
        ).one()
        assert (row.actor, row.note, row.reason) == (
            "staff",
            "the hall is flooded",
            "CANCEL_REQUESTED",
        )


async def test_picking_continues_after_a_cut(
    fulfillments: Fulfillments, operations: Operations
) -> None:
    """A line without remaining units needs no scan and no package."""
    fulfillment = await planned(operations, {"DOVER": [(1, "mug", 3), (2, "cup", 1)]})
    await operations.orders.apply_order_events(
        [lost(fulfillment.key.order_id, {"DOVER": [(1, "mug", 3)]})]
    )
    work = (
        await ask(
            fulfillments.GetFulfillment,
            api.GetFulfillmentRequest(fulfillment_id=str(fulfillment.id)),
        )
    ).fulfillment
    assert (
        await pack(fulfillments, await pick(fulfillments, work))
    ).status == pb.FULFILLMENT_STATUS_READY
