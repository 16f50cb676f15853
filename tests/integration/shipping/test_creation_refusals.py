"""Shipments that the carrier or shipping refuses: closed orders and missing orders too."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, NotFound, Refused
from shipping_svc.app import Operations
from shipping_svc.providers import pdf
from shipping_svc.providers.pdf import FONTS
from tests.integration.shipping.creations import fulfillment_event
from tests.integration.shipping.peers import AWAY, CountingCarrier, KnownOrders
from tests.integration.shipping.requests import (
    Shipping,
    create,
    fulfillment_ready,
    handlers_of,
    order_closed,
    published_types,
    rows,
    the_one,
)
from tests.support import Eventually


async def test_the_carriers_refusal_is_final(
    shipping: Shipping, operations: Operations, orders: KnownOrders, engine: AsyncEngine
) -> None:
    """The answer is CARRIER_REFUSED with the carrier's code, now and at every later request. The
    failure is published, and there is no label.
    """
    request = create()
    orders.addresses[UUID(request.order_id)] = {"country_code": "AQ"}
    for again in (
        request,
        request,
        create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
    ):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert refused.value.reason == "CARRIER_REFUSED"
        assert refused.value.metadata["carrier_code"] == "DESTINATION_NOT_SERVED"
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "CARRIER_REFUSED",
    )
    assert failed.carrier_code == "DESTINATION_NOT_SERVED"
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments([fulfillment_ready(request)])
    ] == [Done]
    assert await published_types(engine) == ["ShipmentStatusChanged"]
    with pytest.raises(Refused) as no_label:
        await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=failed.shipment_id))
    assert (no_label.value.reason, no_label.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "failed", "allowed": ""},
    )


@pytest.mark.parametrize(
    ("locality", "scripts", "installed", "advised"),
    [
        ("القاهرة", "ARABIC", True, False),
        ("القاهرة", "ARABIC", False, False),
        ("𠮷野家", "CJK", True, False),
        ("서울", "HANGUL", False, True),
        ("서울 القاهرة", "ARABIC, HANGUL", False, False),
    ],
)
async def test_unprintable_recipient_buys_no_label(
    shipping: Shipping,
    orders: KnownOrders,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    locality: str,
    scripts: str,
    installed: bool,
    advised: bool,
) -> None:
    """The answer is LABEL_NOT_PRINTABLE with the scripts and the advice, now and at every later
    request. The advice names the extra `cjk` only where it is missing and prints all of them.

    The failure is published, and no label is bought.
    """
    if not installed:
        monkeypatch.setattr(pdf, "FONTS", (FONTS[0], replace(FONTS[1], package="not_installed")))
    request = create()
    orders.addresses[UUID(request.order_id)] = {"locality": locality}
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, request)
        assert (refused.value.reason, refused.value.metadata["scripts"]) == (
            "LABEL_NOT_PRINTABLE",
            scripts,
        )
        assert ("Install the extra `cjk`" in refused.value.message) is advised
        assert ("Latin, Greek or Cyrillic" in refused.value.message) is not advised
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "LABEL_NOT_PRINTABLE",
    )
    assert (failed.carrier_code, failed.tracking_number) == (scripts, "")
    assert await published_types(engine) == ["ShipmentStatusChanged"]


async def test_closed_order_gets_no_shipment(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """The call is answered with ORDER_CLOSED and the event is skipped; no shipment is stored and no
    label bought. Another order of the same set is shipped.
    """
    request, other = create(), create()
    await operations.closing.close_orders([order_closed(request.order_id)])
    with pytest.raises(Refused) as refused:
        await ask(shipping.CreateShipment, request)
    assert (refused.value.reason, refused.value.metadata) == (
        "ORDER_CLOSED",
        {"order_id": request.order_id},
    )
    outcomes = await operations.creation.create_shipments(
        [fulfillment_ready(request), fulfillment_ready(other)]
    )
    assert [outcome.record is None for outcome in outcomes if isinstance(outcome, Done)] == [
        True,
        False,
    ]
    assert (await the_one(shipping)).order_id == other.order_id
    assert len(carrier.calls) == 1


async def test_order_closed_before_label_gets_none(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """A shipment that waits for its carrier when its order closes fails with ORDER_CLOSED; the
    carrier is not called again.
    """
    request = create()
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(request)])
    carrier.failure = None
    calls = carrier.calls.total()
    await operations.closing.close_orders([order_closed(request.order_id)])
    with pytest.raises(Refused) as refused:
        await ask(shipping.CreateShipment, request)
    assert refused.value.reason == "ORDER_CLOSED"
    failed = await the_one(shipping)
    assert (failed.status, failed.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_FAILED,
        "ORDER_CLOSED",
    )
    assert not failed.HasField("carrier_code")
    assert carrier.calls.total() == calls


async def test_bought_label_stays_after_order_closes(
    shipping: Shipping, operations: Operations
) -> None:
    """A request for the shipment of an order that closed later returns it, recalled."""
    request = create()
    shipment = (await ask(shipping.CreateShipment, request)).shipment
    await operations.closing.close_orders([order_closed(request.order_id)])
    again = (
        await ask(
            shipping.CreateShipment,
            create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
        )
    ).shipment
    assert (again.shipment_id, again.status) == (
        shipment.shipment_id,
        shipping_pb2.SHIPMENT_STATUS_VOIDED,
    )


async def test_retried_order_is_shipped(
    shipping: Shipping, operations: Operations, engine: AsyncEngine
) -> None:
    """An order is closed for an attempt, and events may arrive in any order, and twice: the attempt
    after the last closed one is shipped.
    """
    order = str(uuid4())
    closings = [order_closed(order, 1, 3, "failed"), order_closed(order, 2, 7, "failed")]
    for command in (closings[1], closings[0], closings[1]):
        assert [type(outcome) for outcome in await operations.closing.close_orders([command])] == [
            Done
        ]
    with pytest.raises(Refused):
        await ask(shipping.CreateShipment, create(order_id=order, attempt=2))
    shipment = (await ask(shipping.CreateShipment, create(order_id=order, attempt=3))).shipment
    assert shipment.attempt == 3
    assert [
        tuple(row) for row in await rows(engine, "select attempt, version from closed_orders")
    ] == [(2, 7)]


async def stored(engine: AsyncEngine) -> list[int]:
    """Returns the numbers of shipments and of closed fulfilments."""
    return [
        n
        for (n,) in await rows(
            engine,
            "select count(*) from shipments union all select count(*) from closed_fulfillments",
        )
    ]


async def test_event_of_missing_order_leaves_no_record(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """An event of a fulfilment whose order does not exist makes neither a shipment nor a tombstone;
    the others of its set do.

    The set makes one call to the order service, and none about an order that shipping has stored.
    """
    forged, cancelled, true = create(), create(), create()
    orders.missing = {UUID(forged.order_id), UUID(cancelled.order_id)}
    handlers = handlers_of(operations)
    events = [
        fulfillment_event(forged, "READY"),
        fulfillment_event(cancelled, "CANCELLED"),
        fulfillment_event(true, "READY"),
        fulfillment_event(forged, "PICKING"),
    ]
    outcomes = await handlers[FulfillmentStatusChanged](events)
    assert [
        outcome.reason if isinstance(outcome, NotFound) else type(outcome) for outcome in outcomes
    ] == [
        "ORDER_NOT_FOUND",
        "ORDER_NOT_FOUND",
        Done,
        "ORDER_NOT_FOUND",
    ]
    assert await stored(engine) == [1, 0]
    assert orders.asked_for == [{UUID(each.order_id) for each in (forged, cancelled, true)}]
    assert isinstance(
        (await handlers[FulfillmentStatusChanged]([fulfillment_event(true, "CANCELLED")]))[0],
        Done,
    )
    assert len(orders.asked_for) == 1


async def test_withdrawal_of_missing_order_leaves_no_record(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """A withdrawn fulfilment of an unknown order makes no shipment; one of a known order does."""
    forged, true = create(), create()
    orders.missing = {UUID(forged.order_id)}
    events = []
    for request in (forged, true):
        ready = fulfillment_event(request, "READY")
        ready.message.fulfillment.withdraw_reason = "UNITS_CUT"
        message = FulfillmentLinesChanged(fulfillment=ready.message.fulfillment, reason="WITHDRAWN")
        events.append(
            Delivery(
                event_id=ready.event_id,
                key=ready.key,
                request_hash=ready.request_hash,
                message=message,
                time=ready.time,
            )
        )
    refused, done = await handlers_of(operations)[FulfillmentLinesChanged](events)
    assert isinstance(refused, NotFound)
    assert refused.reason == "ORDER_NOT_FOUND"
    assert isinstance(done, Done)
    assert await stored(engine) == [1, 0]


async def test_event_waits_while_order_service_is_down(
    operations: Operations, engine: AsyncEngine, orders: KnownOrders
) -> None:
    """With the order service unreachable, an event about a new order is deferred, and none fails. A
    status that shipping ignores does not wait.
    """
    request, other = create(), create()
    orders.failure = Deferred("DEPENDENCY_UNAVAILABLE")
    handlers = handlers_of(operations)
    waiting, done = await handlers[FulfillmentStatusChanged](
        [fulfillment_event(request, "READY"), fulfillment_event(other, "PICKING")]
    )
    assert isinstance(waiting, Deferred)
    assert isinstance(done, Done)
    assert await stored(engine) == [0, 0]
    orders.failure = None
    [after] = await handlers[FulfillmentStatusChanged]([fulfillment_event(request, "READY")])
    assert isinstance(after, Done)
    assert await stored(engine) == [1, 0]
