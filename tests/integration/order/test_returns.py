"""The methods of returns, over a real channel and a real PostgreSQL: each once, repeated, and
concurrent.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Failure, Refused
from order_svc.app import Operations
from order_svc.model.records import Order
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import (
    delivery,
    paid,
    parcel_ended,
    shipped_and_delivered,
    shipped_fulfilment,
)
from tests.integration.order.requests import Orders, Returns, count, create_order, item
from tests.integration.order.returns import (
    STATUS,
    about,
    approved,
    delivered,
    inspection,
    made,
    money,
    published,
    reasons,
    receipt,
    wanted,
)
from tests.integration.order.test_events import deliver


@pytest.fixture
async def order(orders: Orders, operations: Operations) -> Order:
    """A delivered order of three lamps (10.00 each) and two bulbs (1.00 each)."""
    return await delivered(orders, operations)


async def created_twice(returns: Returns, order: Order) -> return_pb2.Return:
    """Requests a return of two lamps, and repeats the request. Checks the answers."""
    create = wanted(order, {1: 2}, reason="WRONG_SIZE")
    order_return = (await ask(returns.CreateReturn, create)).order_return
    assert (await ask(returns.CreateReturn, create)).order_return == order_return
    assert (
        order_return.status,
        order_return.version,
        order_return.reason,
        order_return.order_number,
    ) == (
        STATUS.RETURN_STATUS_REQUESTED,
        1,
        "WRONG_SIZE",
        order.number,
    )
    assert (order_return.kind, order_return.HasField("warehouse_id")) == (
        return_pb2.RETURN_KIND_CUSTOMER,
        False,
    )
    return order_return


async def inspected_by_repeated_calls(
    returns: Returns, order_return: return_pb2.Return
) -> return_pb2.Return:
    """Takes each step of the return until its inspection twice. Checks that each makes one
    version.
    """
    steps: list[tuple[Any, Any]] = [
        (
            returns.ApproveReturn,
            api.ApproveReturnRequest(**about(order_return), expected_version=1),
        ),
        (returns.MarkReturnInTransit, api.MarkReturnInTransitRequest(**about(order_return))),
        (returns.ReceiveReturn, receipt(order_return, {1: 1})),
        (returns.ReceiveReturn, receipt(order_return, {1: 1, 2: 1})),
        (returns.InspectReturn, inspection(order_return, {1: (1, 0, 0)})),
        (returns.InspectReturn, inspection(order_return, {1: (0, 1, 0), 2: (1, 0, 0)})),
    ]
    answer = order_return
    for version, (method, request) in enumerate(steps, 2):
        answer = (await ask(method, request)).order_return
        assert answer.version == version
        assert (await ask(method, request)).order_return == answer
    return answer


async def test_repeated_calls_of_a_return_have_one_effect_each(
    returns: Returns, orders: Orders, order: Order, engine: AsyncEngine
) -> None:
    """Each call makes one version and one event, also when it is repeated. The order shows the
    returned units, and keeps its own version.
    """
    order_return = await created_twice(returns, order)
    answer = await inspected_by_repeated_calls(returns, order_return)
    assert answer.status == STATUS.RETURN_STATUS_INSPECTED
    assert (
        await ask(returns.GetReturn, api.GetReturnRequest(return_id=order_return.return_id))
    ).order_return == answer
    assert answer.refund_amount.units == 21
    assert [
        (line.line_number, line.sku, line.announced_quantity, line.received_quantity)
        for line in answer.lines
    ] == [
        (1, "LAMP", 2, 2),
        (2, "BULB", 0, 1),
    ]
    assert [(line.passed_quantity, line.failed_quantity) for line in answer.lines] == [
        (1, 1),
        (1, 0),
    ]
    events = await published(engine, order_return.return_id)
    assert [event.order_return.version for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [STATUS.Name(event.new_status)[14:].lower() for event in events] == [
        "requested",
        "approved",
        "in_transit",
        "received",
        "received",
        "received",
        "inspected",
    ]
    assert [event.old_status for event in events[1:]] == [event.new_status for event in events[:-1]]
    assert events[-1].order_return == answer
    assert await count(engine, "returns", "return_history") == [1, 7]
    shown = (
        await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=str(order.id)))
    ).order
    assert [line.returned_quantity for line in shown.items] == [2, 1]
    assert (shown.return_progress, shown.version) == (
        order_pb2.RETURN_PROGRESS_PARTIAL,
        order.version,
    )


async def test_rejected_or_cancelled_return_is_final(returns: Returns, order: Order) -> None:
    """A rejection has a reason. A return can be cancelled until units arrive. Both end it."""
    order_return = await made(returns, order, {1: 3})
    rejected = (
        await ask(
            returns.RejectReturn, api.RejectReturnRequest(**about(order_return), reason="TOO_LATE")
        )
    ).order_return
    assert (rejected.status, rejected.status_reason) == (STATUS.RETURN_STATUS_REJECTED, "TOO_LATE")
    order_return = await approved(returns, order, {1: 3})
    cancel = api.CancelReturnRequest(**about(order_return))
    cancelled = (await ask(returns.CancelReturn, cancel)).order_return
    assert cancelled.status == STATUS.RETURN_STATUS_CANCELLED
    assert (await ask(returns.CancelReturn, cancel)).order_return == cancelled
    with pytest.raises(Refused) as refused:
        await ask(returns.CancelReturn, api.CancelReturnRequest(**about(order_return)))
    assert (refused.value.reason, refused.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "cancelled", "allowed": ""},
    )
    arrived = await approved(returns, order, {1: 3})
    await ask(returns.ReceiveReturn, receipt(arrived, {1: 1}))
    with pytest.raises(Refused) as refused:
        await ask(returns.CancelReturn, api.CancelReturnRequest(**about(arrived)))
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_one_of_concurrent_returns_gets_the_units(
    returns: Returns, order: Order, engine: AsyncEngine
) -> None:
    """Ten requests return all three lamps at once: one succeeds, nine are refused because the
    customer has none left. The same request twice makes one return.
    """
    same = wanted(order, {1: 3})
    refused = ["RETURN_EXCEEDS_DELIVERED"] * 9
    assert await reasons([ask(returns.CreateReturn, wanted(order, {1: 3})) for _ in range(10)]) == [
        "",
        *refused,
    ]
    assert await count(engine, "returns") == [1]
    assert (
        await reasons([ask(returns.CreateReturn, same) for _ in range(5)])
        == ["RETURN_EXCEEDS_DELIVERED"] * 5
    )
    bulbs = wanted(order, {2: 2})
    assert await reasons([ask(returns.CreateReturn, bulbs) for _ in range(10)]) == [""] * 10
    assert await count(engine, "returns", "return_history") == [2, 2]


async def test_concurrent_receipts_count_each_unit_once(
    returns: Returns, order: Order, engine: AsyncEngine
) -> None:
    """Ten callers receive two of three lamps at once: one succeeds; the same goes for their
    inspection. No unit is received or accepted twice.
    """
    order_return = await approved(returns, order, {1: 3})
    several = [ask(returns.ReceiveReturn, receipt(order_return, {1: 2})) for _ in range(10)]
    assert await reasons(several) == ["", *["RETURN_EXCEEDS_DELIVERED"] * 9]
    other = await made(returns, order, {2: 2})
    await ask(returns.ReceiveReturn, receipt(order_return, {1: 1}))
    looks = [
        ask(returns.InspectReturn, inspection(order_return, {1: (2, 0, 0)})) for _ in range(10)
    ]
    assert await reasons(looks) == ["", *["INSPECTION_EXCEEDS_RECEIPT"] * 9]
    [line] = (
        await ask(returns.GetReturn, api.GetReturnRequest(return_id=order_return.return_id))
    ).order_return.lines
    assert (line.received_quantity, line.passed_quantity) == (3, 2)
    assert [
        event.order_return.version for event in await published(engine, order_return.return_id)
    ] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert [event.order_return.version for event in await published(engine, other.return_id)] == [1]


async def test_refund_without_goods_is_inspected_at_once(
    returns: Returns, orders: Orders, order: Order, engine: AsyncEngine
) -> None:
    """The return is inspected at once, with its units as the caller says. One event has all of it;
    a return without an amount is closed at once.
    """
    request = money(
        order, {1: (2, "DAMAGED"), 2: (1, "NONE")}, warehouse_id="paris", reason="ARRIVED_BROKEN"
    )
    order_return = (await ask(returns.CreateReturn, request)).order_return
    assert (await ask(returns.CreateReturn, request)).order_return == order_return
    assert (order_return.status, order_return.kind, order_return.warehouse_id) == (
        STATUS.RETURN_STATUS_INSPECTED,
        return_pb2.RETURN_KIND_WITHOUT_GOODS,
        "paris",
    )
    assert order_return.refund_amount.units == 21
    assert [(line.failed_quantity, line.written_off_quantity) for line in order_return.lines] == [
        (2, 0),
        (0, 1),
    ]
    [event] = await published(engine, order_return.return_id)
    assert event.order_return == order_return
    shown = (
        await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=str(order.id)))
    ).order
    assert [line.returned_quantity for line in shown.items] == [2, 0]


async def test_repeat_after_key_deletion_has_no_second_effect(
    returns: Returns, order: Order, engine: AsyncEngine
) -> None:
    """After the key is deleted, a repeated request answers the same return, and a repeated receipt
    counts no unit again.
    """
    create = wanted(order, {1: 1})
    order_return = (await ask(returns.CreateReturn, create)).order_return
    await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(order_return)))
    arrives = receipt(order_return, {1: 1})
    answer = (await ask(returns.ReceiveReturn, arrives)).order_return
    async with engine.begin() as connection:
        await connection.execute(text("delete from idempotency_keys"))
    assert (await ask(returns.CreateReturn, create)).order_return == answer
    with pytest.raises(Failure):
        await ask(returns.ReceiveReturn, arrives)
    assert (
        await ask(returns.GetReturn, api.GetReturnRequest(return_id=order_return.return_id))
    ).order_return == answer


async def test_one_of_two_parcels_delivered_can_be_returned(
    returns: Returns, orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """CancelOrder is refused, and says what to do with each parcel. The shipment that it names is
    recalled; the delivered units are returned while the order is still shipped.

    When the recalled parcel comes back, its units count as cancelled.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    placed = (
        await orders.CreateOrder(create_order(item("LAMP", 3, 10), item("BULB", 2, 1)), timeout=30)
    ).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    created, _ = shipped_and_delivered(order, "paris")
    events = (
        paid(order),
        *shipped_fulfilment(order, "london", {1: 3}),
        *shipped_and_delivered(order, "london"),
        created,
    )
    await deliver(operations, [delivery(event) for event in events])
    cancellation = order_service_pb2.CancelOrderRequest(
        request_id=str(uuid4()), order_id=placed.order_id
    )
    with pytest.raises(Refused) as refused:
        await ask(orders.CancelOrder, cancellation)
    assert refused.value.reason == "ORDER_NOT_CANCELLABLE"
    assert refused.value.metadata == {
        "status": "shipped",
        "shipment_ids": created.shipment.shipment_id,
    }
    assert "Return the delivered units with CreateReturn." in refused.value.message
    order_return = await made(returns, order, {1: 3})
    await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(order_return)))
    await ask(returns.ReceiveReturn, receipt(order_return, {1: 3}))
    inspected = (
        await ask(returns.InspectReturn, inspection(order_return, {1: (3, 0, 0)}))
    ).order_return
    assert (inspected.status, inspected.refund_amount.units) == (STATUS.RETURN_STATUS_INSPECTED, 30)
    with pytest.raises(Refused) as refused:
        await ask(returns.CreateReturn, wanted(order, {2: 1}))
    assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
    back = parcel_ended(created.shipment, shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER)
    await deliver(operations, [delivery(back)])
    shown = (
        await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=placed.order_id))
    ).order
    assert shown.status == order_pb2.ORDER_STATUS_DELIVERED
    assert [(line.cancelled_quantity, line.returned_quantity) for line in shown.items] == [
        (0, 3),
        (2, 0),
    ]
    assert shown.cancelled_amount.units == 2
