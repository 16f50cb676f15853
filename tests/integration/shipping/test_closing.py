"""Recalls by a closed order or a cancelled fulfilment."""

import asyncio
from collections.abc import Sequence
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, Refused
from shipping_svc.app import Operations
from shipping_svc.model.records import purchase_key
from shipping_svc.providers.sandbox import tracking_number_for
from tests.integration.shipping.peers import AWAY, CountingCarrier
from tests.integration.shipping.recalls import S, created, now, recalls_answered, reported
from tests.integration.shipping.requests import (
    Shipping,
    create,
    fulfillment_cancelled,
    fulfillment_ready,
    order_closed,
    published_events,
    rows,
)
from tests.support import Eventually


async def test_closing_order_recalls_shipped_parcels(
    shipping: Shipping, operations: Operations, engine: AsyncEngine
) -> None:
    """All shipments of the order change by their status: waiting ones are void, moving ones
    recalled, ended ones unchanged. Other orders' shipments stay.
    """
    order = str(uuid4())
    waiting, moving, delivered = [await created(shipping, order_id=order) for _ in range(3)]
    other, later = await created(shipping), await created(shipping, order_id=order, attempt=2)
    await reported(shipping, moving, "in_transit")
    delivered = await reported(shipping, delivered, "delivered")
    await operations.closing.close_orders([order_closed(order)])
    voided, recalled = await now(shipping, waiting), await now(shipping, moving)
    assert (S(voided.status), voided.status_reason) == ("SHIPMENT_STATUS_VOIDED", "ORDER_CLOSED")
    assert (S(recalled.status), recalled.status_reason) == (
        "SHIPMENT_STATUS_IN_TRANSIT",
        "ORDER_CLOSED",
    )
    assert recalled.HasField("recall_time")
    assert [await now(shipping, each) for each in (delivered, other, later)] == [
        delivered,
        other,
        later,
    ]


def _ends_after(steps: Sequence[str]) -> list[tuple[str, bool]]:
    """Returns the status of each shipment after these events, and whether it is recalled."""
    first_closing = min(steps.index("closing"), steps.index("late closing"))
    if first_closing < steps.index("creation"):
        return []
    if steps.index("creation") < steps.index("report") < first_closing:
        return [("SHIPMENT_STATUS_IN_TRANSIT", True)]
    return [("SHIPMENT_STATUS_VOIDED", True)]


async def _shipments(shipping: Shipping, order_id: str) -> list[shipping_pb2.Shipment]:
    request = api.ListShipmentsRequest(order_id=order_id)
    return list((await ask(shipping.ListShipments, request)).shipments)


class OrderEvents:
    """The events of one order, whose shipment is created, closed and reported."""

    def __init__(self, shipping: Shipping, operations: Operations) -> None:
        self._shipping, self._operations = shipping, operations
        request = create()
        self.order_id = request.order_id
        self._creation = fulfillment_ready(request)
        self._closings = {
            "closing": order_closed(self.order_id),
            "late closing": order_closed(self.order_id, version=7),
        }

    async def deliver(self, name: str) -> None:
        """Delivers the event of this name."""
        if name == "report":
            for each in await _shipments(self._shipping, self.order_id):
                await reported(self._shipping, each, "in_transit")
            return
        outcomes = await (
            self._operations.creation.create_shipments([self._creation])
            if name == "creation"
            else self._operations.closing.close_orders([self._closings[name]])
        )
        assert [type(outcome) for outcome in outcomes] == [Done]


async def test_closings_requests_and_reports_in_any_order(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    eventually: Eventually,
    subtests: pytest.Subtests,
) -> None:
    """In every order of the events, each delivered twice, the shipment of the closed order ends
    void or returned, or is not created. Each change is published once.
    """

    async def ran(steps: Sequence[str]) -> None:
        events = OrderEvents(shipping, operations)
        for step in steps:
            await events.deliver(step)
            await events.deliver(step)
        await recalls_answered(operations, engine, eventually)
        before = await rows(engine, "select * from history order by shipment_id, version")
        async with engine.begin() as connection:
            await connection.execute(text("delete from idempotency_keys"))
        for step in ("creation", "closing", "late closing"):
            await events.deliver(step)
        assert await rows(engine, "select * from history order by shipment_id, version") == before
        assert [
            (S(each.status), each.HasField("recall_time"))
            for each in await _shipments(shipping, events.order_id)
        ] == _ends_after(steps)
        every = [event.shipment for event in await published_events(engine)]
        mine = [each for each in every if each.order_id == events.order_id]
        assert [each.version for each in mine] == list(range(2, 2 + len(mine)))

    for steps in permutations(["creation", "closing", "report", "late closing"]):
        with subtests.test("-".join(steps)):
            await ran(steps)


async def test_closing_without_stored_recall_is_redelivered(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed order is stored, but its shipment could not be locked in time. The event is
    deferred, and recalls the shipment when it is delivered again.
    """
    shipment = await created(shipping)
    event = order_closed(shipment.order_id)
    with monkeypatch.context() as broken:
        broken.setattr(operations.closing.writer, "write", _away)
        [outcome] = await operations.closing.close_orders([event])
        assert isinstance(outcome, Deferred)
    assert await now(shipping, shipment) == shipment
    [again] = await operations.closing.close_orders([event])
    assert isinstance(again, Done)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"


async def _away(commands: list[Any]) -> list[Outcome[Any]]:
    return [Deferred("DATABASE_UNAVAILABLE")] * len(commands)


@pytest.mark.parametrize("first", ["creation", "closing"])
async def test_cancelled_fulfilment_is_not_shipped(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    first: str,
) -> None:
    """Request and event come in each order, and twice, with and without their keys. The label is
    void or never bought, and the other shipments of the order go on.
    """
    order = str(uuid4())
    request, other = create(order_id=order), await created(shipping, order_id=order)
    creation, closing = fulfillment_ready(request), fulfillment_cancelled(request.fulfillment_id)
    for _ in range(2):
        for step in ("creation", "closing") if first == "creation" else ("closing", "creation"):
            events = (
                operations.creation.create_shipments([creation, creation])
                if step == "creation"
                else operations.closing.close_fulfillments([closing, closing])
            )
            assert [type(outcome) for outcome in await events] == [Done, Done]
        async with engine.begin() as connection:
            await connection.execute(text("delete from idempotency_keys"))
    again = create(order_id=order, fulfillment_id=request.fulfillment_id)
    if first == "creation":
        voided = (await ask(shipping.CreateShipment, again)).shipment
        assert (S(voided.status), voided.version, voided.status_reason) == (
            "SHIPMENT_STATUS_VOIDED",
            4,
            "FULFILLMENT_CANCELLED",
        )
    else:
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert refused.value.reason == "ILLEGAL_TRANSITION"
        assert refused.value.metadata["fulfillment_id"] == request.fulfillment_id
    assert await now(shipping, other) == other
    assert carrier.calls.total() == (2 if first == "creation" else 1)
    assert [
        row.version for row in await rows(engine, "select version from closed_fulfillments")
    ] == [9]


async def test_cancellation_during_the_sale_leaves_no_valid_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The fulfilment is cancelled during the sale, or before the sweeper: no label stays valid,
    with or without a stored sale.
    """
    sold, waiting = create(), create()
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(waiting)])
    carrier.failure = None
    carrier.sale.clear()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(sold)]))
    await eventually(lambda: carrier.calls.total() == 2)
    await operations.closing.close_fulfillments(
        [fulfillment_cancelled(sold.fulfillment_id), fulfillment_cancelled(waiting.fulfillment_id)]
    )
    carrier.sale.set()
    await sale
    await operations.labels.buy_pending_labels()
    await recalls_answered(operations, engine, eventually)
    found = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    assert {(S(each.status), each.status_reason) for each in found} == {
        ("SHIPMENT_STATUS_FAILED", "FULFILLMENT_CANCELLED")
    }
    purchases = {each.fulfillment_id: purchase_key(UUID(each.shipment_id), 0) for each in found}
    assert set(carrier.recalls) == {
        tracking_number_for(purchases[sold.fulfillment_id]),
        purchases[waiting.fulfillment_id],
    }
    for request in (sold, waiting):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, request)
        assert refused.value.reason == "ILLEGAL_TRANSITION"
