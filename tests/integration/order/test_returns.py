"""The methods of returns, over a real channel and a real PostgreSQL: each once, repeated, and
concurrent.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.events.v1.order_events_pb2 import ReturnStatusChanged
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values import paging
from chassis.values.errors import Failure, Invalid, NotFound, Refused, Stale
from order_svc import tables
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
from tests.integration.order.requests import Orders, Returns, create_order, item
from tests.integration.order.test_events import deliver
from tests.support import room_for

STATUS = return_pb2.ReturnStatus


@pytest.fixture
async def order(orders: Orders, operations: Operations) -> Order:
    """A delivered order of three lamps (10.00 each) and two bulbs (1.00 each)."""
    return await delivered(orders, operations)


async def delivered(orders: Orders, operations: Operations) -> Order:
    placed = (
        await orders.CreateOrder(create_order(item("LAMP", 3, 10), item("BULB", 2, 1)), timeout=30)
    ).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    await deliver(
        operations,
        [
            delivery(event)
            for event in (
                paid(order),
                *shipped_fulfilment(order, "london", {1: 3, 2: 2}),
                *shipped_and_delivered(order, "london"),
            )
        ],
    )
    [order] = await operations.reading.get_orders([order.id])
    assert order.status == "delivered"
    return order


def wanted(
    order: Order, lines: dict[int, int] | list[api.NewReturnLine], **fields: Any
) -> api.CreateReturnRequest:
    values: dict[str, Any] = {"request_id": str(uuid4()), "order_id": str(order.id)}
    if isinstance(lines, dict):
        lines = [
            api.NewReturnLine(line_number=number, quantity=quantity)
            for number, quantity in lines.items()
        ]
    return api.CreateReturnRequest(**(values | {"lines": lines} | fields))


def money(
    order: Order, lines: dict[int, tuple[int, str]], **fields: Any
) -> api.CreateReturnRequest:
    """Returns the request of a refund without goods: the units by line, and the disposition of
    their stock.
    """
    named = [
        api.NewReturnLine(
            line_number=n,
            quantity=units,
            disposition=return_pb2.StockDisposition.Value(f"STOCK_DISPOSITION_{what}"),
        )
        for n, (units, what) in lines.items()
    ]
    return wanted(order, named, without_goods=True, **fields)


def about(order_return: return_pb2.Return, **fields: Any) -> dict[str, Any]:
    return {"request_id": str(uuid4()), "return_id": order_return.return_id, **fields}


def receipt(
    order_return: return_pb2.Return, lines: dict[int, int], **fields: Any
) -> api.ReceiveReturnRequest:
    arrived = [
        api.ReceivedReturnLine(line_number=number, quantity=quantity)
        for number, quantity in lines.items()
    ]
    return api.ReceiveReturnRequest(
        **about(order_return, **({"warehouse_id": "london"} | fields)), lines=arrived
    )


def inspection(
    order_return: return_pb2.Return, lines: dict[int, tuple[int, int, int]], **fields: Any
) -> api.InspectReturnRequest:
    found = [
        api.InspectedReturnLine(
            line_number=number,
            passed_quantity=passed,
            failed_quantity=failed,
            unrefunded_quantity=unrefunded,
        )
        for number, (passed, failed, unrefunded) in lines.items()
    ]
    return api.InspectReturnRequest(**about(order_return, **fields), lines=found)


async def made(returns: Returns, order: Order, lines: dict[int, int]) -> return_pb2.Return:
    return (await ask(returns.CreateReturn, wanted(order, lines))).order_return


async def approved(returns: Returns, order: Order, lines: dict[int, int]) -> return_pb2.Return:
    order_return = await made(returns, order, lines)
    return (
        await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(order_return)))
    ).order_return


async def published(engine: AsyncEngine, return_id: str) -> list[ReturnStatusChanged]:
    """Returns the events of a return, in order."""
    statement = (
        select(tables.outbox.c.payload)
        .where(tables.outbox.c.aggregate == UUID(return_id))
        .order_by(tables.outbox.c.id)
    )
    async with engine.connect() as connection:
        return [
            ReturnStatusChanged.FromString(payload)
            for payload in (await connection.execute(statement)).scalars()
        ]


async def count(engine: AsyncEngine, *names: str) -> list[int]:
    async with engine.connect() as connection:
        return [
            (
                await connection.execute(
                    select(func.count()).select_from(tables.metadata.tables[name])
                )
            ).scalar_one()
            for name in names
        ]


async def reasons(calls: Sequence[Awaitable[Any]]) -> list[str]:
    """Runs the calls at once; returns "" for each that succeeded, else the reason of its
    refusal.
    """
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return sorted(outcome.reason if isinstance(outcome, Failure) else "" for outcome in outcomes)


async def test_repeated_calls_of_a_return_have_one_effect_each(
    returns: Returns, orders: Orders, order: Order, engine: AsyncEngine
) -> None:
    """Each call makes one version and one event, also when it is repeated. The order shows the
    returned units, and keeps its own version.
    """
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


async def test_invalid_return_is_refused_with_its_reason(
    returns: Returns, orders: Orders, order: Order
) -> None:
    """Unknown orders, lines and returns, units that the customer has not, stale versions and other
    bodies each get their reason.
    """
    order_return = await made(returns, order, {1: 1})
    create = wanted(order, {1: 1})
    await ask(returns.CreateReturn, create)
    create.lines[0].quantity = 2
    pending = (await orders.CreateOrder(create_order(), timeout=30)).order
    unknown = return_pb2.Return(return_id=str(uuid4()))
    cases: list[tuple[type[Failure], str, Awaitable[Any]]] = [
        (Invalid, "REQUEST_ID_REUSED", ask(returns.CreateReturn, create)),
        (
            NotFound,
            "ORDER_NOT_FOUND",
            ask(returns.CreateReturn, wanted(order, {1: 1}, order_id=str(uuid4()))),
        ),
        (
            Refused,
            "ORDER_NOT_RETURNABLE",
            ask(returns.CreateReturn, wanted(order, {1: 1}, order_id=pending.order_id)),
        ),
        (
            Refused,
            "RETURN_EXCEEDS_DELIVERED",
            ask(returns.CreateReturn, wanted(order, {1: 2, 7: 1})),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(returns.CreateReturn, wanted(order, {1: 1}, expected_version=1)),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(returns.CreateReturn, money(order, {1: (1, "NONE")}, expected_version=1)),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(
                returns.ApproveReturn,
                api.ApproveReturnRequest(**about(order_return), expected_version=2),
            ),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.GetReturn, api.GetReturnRequest(return_id=unknown.return_id)),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(unknown))),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.RejectReturn, api.RejectReturnRequest(**about(unknown))),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.MarkReturnInTransit, api.MarkReturnInTransitRequest(**about(unknown))),
        ),
        (NotFound, "RETURN_NOT_FOUND", ask(returns.ReceiveReturn, receipt(unknown, {1: 1}))),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.InspectReturn, inspection(unknown, {1: (1, 0, 0)})),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.CancelReturn, api.CancelReturnRequest(**about(unknown))),
        ),
        (Refused, "ILLEGAL_TRANSITION", ask(returns.ReceiveReturn, receipt(order_return, {1: 1}))),
    ]
    for kind, reason, call in cases:
        with pytest.raises(kind) as refused:
            await call
        assert refused.value.reason == reason


async def test_return_that_breaks_the_contract_is_refused(returns: Returns, order: Order) -> None:
    """Refused: a line twice, a disposition where goods come back, none where they do not, no
    warehouse where stock changes, and an inspection without units.
    """
    order_return = await made(returns, order, {1: 1})
    twice = [api.NewReturnLine(line_number=1, quantity=1)] * 2
    disposed = [
        api.NewReturnLine(line_number=1, quantity=1, disposition=return_pb2.STOCK_DISPOSITION_NONE)
    ]
    calls: list[Awaitable[Any]] = [
        ask(returns.CreateReturn, wanted(order, twice)),
        ask(returns.CreateReturn, wanted(order, {})),
        ask(returns.CreateReturn, wanted(order, disposed)),
        ask(returns.CreateReturn, wanted(order, {1: 1}, without_goods=True)),
        ask(returns.CreateReturn, money(order, {1: (1, "RESTOCK")})),
        ask(returns.CreateReturn, wanted(order, {1: 1}, reason="no capitals")),
        ask(returns.InspectReturn, inspection(order_return, {1: (0, 0, 0)})),
        ask(returns.InspectReturn, inspection(order_return, {1: (1, 0, 2)})),
        ask(returns.ReceiveReturn, receipt(order_return, {1: 1}, warehouse_id="")),
        ask(
            returns.ListReturns, api.ListReturnsRequest(statuses=[STATUS.RETURN_STATUS_UNSPECIFIED])
        ),
    ]
    for call in calls:
        with pytest.raises(Invalid) as refused:
            await call
        assert refused.value.reason == "VALIDATION_FAILED"


@pytest.mark.parametrize(("page_size", "bounded"), [(2, False), (1000, True)])
async def test_lists_page_newest_first_and_filter(
    returns: Returns,
    orders: Orders,
    operations: Operations,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    bounded: bool,
) -> None:
    """The pages have each return once and are no larger than a client accepts. All filters must
    match; a token of another filter is refused.
    """
    other = await delivered(orders, operations)
    parameters = (
        (order, {1: 1}),
        (other, {1: 1}),
        (order, {1: 1}),
        (other, {1: 1, 2: 1}),
        (order, {1: 1}),
    )
    returns_ = [await made(returns, which, lines) for which, lines in parameters]
    await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(returns_[2])))
    with monkeypatch.context() as patch:
        if bounded:
            patch.setattr(paging, "ANSWER_BYTES_MAX", room_for(returns_[4], returns_[3]))
        listed = [
            [order_return.return_id for order_return in page]
            async for page in pages(
                returns.ListReturns, api.ListReturnsRequest(), "returns", size=page_size
            )
        ]
    assert [id for page in listed for id in page] == [
        order_return.return_id for order_return in reversed(returns_)
    ]
    assert list(map(len, listed)) == [2, 2, 1]
    summary = await ask(returns.ListReturns, api.ListReturnsRequest(view=VIEW_SUMMARY))
    assert [
        (order_return.return_id, len(order_return.lines)) for order_return in summary.returns
    ] == [(order_return.return_id, 0) for order_return in reversed(returns_)]

    async def found(**fields: Any) -> list[int]:
        found = (await ask(returns.ListReturns, api.ListReturnsRequest(**fields))).returns
        return [
            [order_return.return_id for order_return in returns_].index(one.return_id)
            for one in found
        ]

    requested = [STATUS.RETURN_STATUS_REQUESTED]
    assert await found(order_id=str(order.id)) == [4, 2, 0]
    assert await found(order_id=str(order.id), statuses=requested) == [4, 0]
    assert await found(statuses=[STATUS.RETURN_STATUS_APPROVED]) == [2]
    assert await found(create_time_from=returns_[3].create_time) == [4, 3]
    assert (
        await found(create_time_from=Timestamp(seconds=returns_[4].create_time.seconds + 9)) == []
    )
    token = (await ask(returns.ListReturns, api.ListReturnsRequest(page_size=1))).next_page_token
    with pytest.raises(Invalid) as refused:
        await ask(returns.ListReturns, api.ListReturnsRequest(page_token=token, statuses=requested))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


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


@pytest.mark.parametrize(
    "change",
    [
        "update return_lines set passed = received + 1",
        "update return_lines set passed = 1, failed = 1, written_off = 1",
        "update return_lines set passed = 1, unrefunded = 2",
        "update return_lines set received = -1",
        "update return_lines set refund = -1",
        "update return_lines set number = 9",
        "update returns set version = 0",
        "update returns set refunded = -1",
        "update returns set kind = 'recall', refunded = 1",
        (
            "insert into return_history select return_id, 9, old, new, reason, actor, cause, time"
            " from return_history where version = 2"
        ),
        "update return_history set old = null where version = 2",
    ],
)
async def test_database_refuses_invalid_returns(
    returns: Returns, order: Order, engine: AsyncEngine, change: str
) -> None:
    """Constraints refuse accepted units that have not arrived, money for a recall, a line of
    another order, and a step twice.
    """
    order_return = await approved(returns, order, {1: 2})
    await ask(returns.ReceiveReturn, receipt(order_return, {1: 2}))
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(text(change))


async def test_one_of_two_parcels_delivered_can_be_returned(
    returns: Returns, orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """CancelOrder is refused, and says what to do with each parcel. The shipment that it names is
    recalled; the delivered units are returned while the order is still shipped.

    When the recalled parcel comes back, its units count as cancelled.
    """
    warehouse.serving = ("london", "paris")
    placed = (
        await orders.CreateOrder(create_order(item("LAMP", 3, 10), item("BULB", 2, 1)), timeout=30)
    ).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    created, _ = shipped_and_delivered(order, "paris")
    await deliver(
        operations,
        [
            delivery(event)
            for event in (
                paid(order),
                *shipped_fulfilment(order, "london", {1: 3}),
                *shipped_and_delivered(order, "london"),
                created,
            )
        ],
    )
    with pytest.raises(Refused) as refused:
        await ask(
            orders.CancelOrder,
            order_service_pb2.CancelOrderRequest(request_id=str(uuid4()), order_id=placed.order_id),
        )
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
