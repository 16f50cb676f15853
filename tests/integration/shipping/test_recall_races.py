"""Recalls that are concurrent with sales, closings and reports."""

import asyncio
from contextlib import suppress
from uuid import UUID

from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Refused
from shipping_svc.app import Operations
from shipping_svc.model.records import purchase_key
from tests.integration.shipping.peers import AWAY, CountingCarrier, Crash
from tests.integration.shipping.recalls import (
    S,
    cancelled,
    created,
    now,
    open_recalls,
    recalls_answered,
    reported,
)
from tests.integration.shipping.requests import (
    Shipping,
    create,
    fulfillment_ready,
    order_closed,
    published_types,
    rows,
    the_one,
)
from tests.support import Eventually


async def test_recall_during_the_sale_recalls_the_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The shipment failed during the sale: the sold label is recalled, and the shipment stays
    failed.
    """
    carrier.sale.clear()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(create())]))
    await eventually(lambda: carrier.calls)
    failed = await cancelled(shipping, await the_one(shipping))
    carrier.sale.set()
    await sale
    await recalls_answered(operations, engine, eventually)
    assert await the_one(shipping) == failed
    assert carrier.recalls.total() == 1
    assert await published_types(engine) == ["ShipmentStatusChanged"]


async def test_label_of_unknown_sale_is_recalled(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process crashes at the carrier's answer, then the order closes. The label is recalled
    under the key of its purchase, once the carrier can be reached.
    """
    carrier.after_sale = Crash()
    request = create()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(request)])
    carrier.after_sale, carrier.failure = None, AWAY
    await operations.closing.close_orders([order_closed(request.order_id)])
    ended = await the_one(shipping)
    assert (S(ended.status), ended.status_reason) == ("SHIPMENT_STATUS_FAILED", "ORDER_CLOSED")

    async def is_recalled() -> bool:
        await operations.recalls.retry_open_recalls()
        return bool(carrier.recalls)

    await eventually(is_recalled)
    assert await open_recalls(engine) == 1
    carrier.failure = None
    await recalls_answered(operations, engine, eventually)
    assert set(carrier.recalls) == set(carrier.calls) == {purchase_key(UUID(ended.shipment_id), 0)}
    assert await the_one(shipping) == ended


async def test_order_closes_while_label_is_bought(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """In either order, the closing order finds the shipment or the shipment finds the closed order:
    no parcel goes to the customer.
    """
    requests = [create() for _ in range(30)]

    async def ships(request: api.CreateShipmentRequest) -> None:
        with suppress(Refused):
            await ask(shipping.CreateShipment, request)

    async def closes(place: int, request: api.CreateShipmentRequest) -> None:
        for _ in range(place % 6):  # each a little later than the one before
            await ask(shipping.ListShipments, api.ListShipmentsRequest())
        assert [
            type(outcome)
            for outcome in await operations.closing.close_orders([order_closed(request.order_id)])
        ] == [Done]

    await asyncio.gather(
        *map(ships, requests), *(closes(place, request) for place, request in enumerate(requests))
    )
    await recalls_answered(operations, engine, eventually)
    ended = await rows(engine, "select status::text from shipments")
    assert {status for (status,) in ended} <= {"voided", "failed"}
    [(alive,)] = await rows(engine, "select count(*) from label_tries")
    assert alive == 0


async def test_order_closes_while_label_is_stored(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The closing order finds a shipment whose label is being stored, waits for it, and recalls
    it.
    """
    carrier.sale.clear()
    request = create()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(request)]))
    await eventually(lambda: carrier.calls)
    async with engine.begin() as connection:
        await connection.execute(text("select 1 from shipments for no key update"))
        carrier.sale.set()
        closing = asyncio.create_task(
            operations.closing.close_orders([order_closed(request.order_id)])
        )

        async def both_wait() -> bool:
            waiting = (
                "select count(*) from pg_stat_activity where datname = current_database() and"
                " wait_event_type = 'Lock'"
            )
            return [tuple(row) for row in await rows(engine, waiting)] == [(2,)]

        await eventually(both_wait)
    await asyncio.gather(sale, closing)
    await recalls_answered(operations, engine, eventually)
    ended = await the_one(shipping)
    assert S(ended.status) in ("SHIPMENT_STATUS_VOIDED", "SHIPMENT_STATUS_FAILED")
    assert ended.status_reason == "ORDER_CLOSED"
    assert carrier.recalls.total() == 1


async def test_recall_during_a_report_has_one_outcome(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The shipment is void or on its way, never both. A parcel that the carrier reports first comes
    back by its reports.

    A report after the carrier's void is a contradiction, and the label stays void.
    """
    shipments = [await created(shipping) for _ in range(12)]
    recalls = [cancelled(shipping, shipment) for shipment in shipments]
    reports = [reported(shipping, shipment, "in_transit") for shipment in shipments]
    await asyncio.gather(*(work for both in zip(recalls, reports, strict=True) for work in both))
    await recalls_answered(operations, engine, eventually)
    for shipment in shipments:
        ended = await now(shipping, shipment)
        assert ended.HasField("recall_time")
        if ended.status != shipping_pb2.SHIPMENT_STATUS_VOIDED:
            assert (
                S((await reported(shipping, shipment, "returned_to_sender", 9)).status)
                == "SHIPMENT_STATUS_RETURNED_TO_SENDER"
            )
    assert [
        tuple(row)
        for row in await rows(
            engine,
            "select count(*) from history where old = 'voided' and new <> 'voided'"
            " or old = 'in_transit' and new = 'voided'",
        )
    ] == [(0,)]


async def test_report_before_the_write_of_a_void_keeps_the_recall(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier, eventually: Eventually
) -> None:
    """The carrier answered void, and then scanned the parcel: the parcel is in transit, and still
    recalled.
    """
    shipment = await created(shipping)
    carrier.recall_answer.clear()
    recall = asyncio.create_task(cancelled(shipping, shipment))
    await eventually(lambda: carrier.recalls)
    await reported(shipping, shipment, "in_transit")
    carrier.recall_answer.set()
    answer = await recall
    assert (S(answer.status), answer.HasField("recall_time")) == (
        "SHIPMENT_STATUS_IN_TRANSIT",
        True,
    )
    assert (
        S((await reported(shipping, shipment, "delivered", 9)).status)
        == "SHIPMENT_STATUS_DELIVERED"
    )
