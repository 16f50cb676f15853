"""Orders are read, listed and watched, over a real channel and a real PostgreSQL."""

import asyncio
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, VIEW_UNSPECIFIED
from sqlalchemy import Uuid, bindparam, cast, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from chassis.rpc.client import ask, pages
from chassis.rpc.status import decode
from chassis.values import paging
from chassis.values.convert import resume_token
from chassis.values.errors import (
    Invalid,
    NotFound,
    OutOfRange,
    Refused,
)
from chassis.write.database import Database
from order_svc import tables
from order_svc.app import Operations
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.requests import (
    RECIPIENT,
    Orders,
    create,
    create_order,
    item,
    pounds,
)
from tests.support import room_for
from tests.unit.order.samples import cancel_items, pay


async def read(watch: Any) -> order_service_pb2.WatchOrderResponse:
    response = await watch.read()
    assert isinstance(response, order_service_pb2.WatchOrderResponse)
    return response


async def test_time_bounds_keep_their_nanoseconds(orders: Orders) -> None:
    """A bound a nanosecond after an order's time is later than it, on both sides: it is rounded
    up.
    """
    order = await create(orders, create_order())
    later = Timestamp(seconds=order.create_time.seconds, nanos=order.create_time.nanos + 1)

    async def found(since: Timestamp | None = None, before: Timestamp | None = None) -> int:
        wanted = order_service_pb2.ListOrdersRequest(
            create_time_from=since, create_time_before=before
        )
        return len((await ask(orders.ListOrders, wanted)).orders)

    assert await found(since=order.create_time) == await found(before=later) == 1
    assert await found(since=later) == await found(before=order.create_time) == 0


async def test_unknown_orders_are_not_found(orders: Orders) -> None:
    """Every method that names an order answers ORDER_NOT_FOUND; a batch names the missing one."""
    known, unknown = (await create(orders, create_order())).order_id, str(uuid4())
    for call in (
        ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=unknown)),
        ask(
            orders.ListOrderTransitions,
            order_service_pb2.ListOrderTransitionsRequest(order_id=unknown),
        ),
        ask(orders.GetOrderRecipient, order_service_pb2.GetOrderRecipientRequest(order_id=unknown)),
        ask(
            orders.BatchGetOrders,
            order_service_pb2.BatchGetOrdersRequest(order_ids=[known, unknown]),
        ),
    ):
        with pytest.raises(NotFound) as missing:
            await call
        assert (missing.value.reason, missing.value.metadata["order_id"]) == (
            "ORDER_NOT_FOUND",
            unknown,
        )


async def test_batch_leaves_missing_orders_out_if_allowed(orders: Orders) -> None:
    """With allow_missing the answer has the existing orders, in the order of the request."""
    known = [(await create(orders, create_order())).order_id for _ in range(2)]
    request = order_service_pb2.BatchGetOrdersRequest(
        order_ids=[known[1], str(uuid4()), known[0]], allow_missing=True
    )
    answer = await ask(orders.BatchGetOrders, request)
    assert [order.order_id for order in answer.orders] == [known[1], known[0]]


async def test_order_summary_has_all_but_its_lines(orders: Orders) -> None:
    """GetOrder, BatchGetOrders and ListOrders leave items and late events out only in
    VIEW_SUMMARY.
    """
    whole = await create(orders, create_order(item("LAMP", 3), item("BULB")))
    summary = order_pb2.Order()
    summary.CopyFrom(whole)
    summary.ClearField("items")
    for view, expected in ((VIEW_UNSPECIFIED, whole), (VIEW_FULL, whole), (VIEW_SUMMARY, summary)):
        get = order_service_pb2.GetOrderRequest(order_id=whole.order_id, view=view)
        batch = order_service_pb2.BatchGetOrdersRequest(order_ids=[whole.order_id], view=view)
        several = order_service_pb2.ListOrdersRequest(view=view)
        assert (await ask(orders.GetOrder, get)).order == expected
        assert list((await ask(orders.BatchGetOrders, batch)).orders) == [expected]
        assert list((await ask(orders.ListOrders, several)).orders) == [expected]


async def test_batch_too_large_for_an_answer_is_refused(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is only a reason, which names the number of orders that fit. That many orders are
    answered, and so are summaries of all.
    """
    made = [await create(orders, create_order(*[item()] * 20)) for _ in range(3)]
    ids = [order.order_id for order in made]
    monkeypatch.setattr(paging, "ANSWER_BYTES_MAX", room_for(*made[:2]))
    with pytest.raises(Refused) as refused:
        await ask(orders.BatchGetOrders, order_service_pb2.BatchGetOrdersRequest(order_ids=ids))
    assert refused.value.reason == "ANSWER_TOO_LARGE"
    metadata = refused.value.metadata
    assert (metadata["records_max"], metadata["records"]) == ("2", "3")
    some = order_service_pb2.BatchGetOrdersRequest(order_ids=ids[:2])
    assert list((await ask(orders.BatchGetOrders, some)).orders) == made[:2]
    summaries = order_service_pb2.BatchGetOrdersRequest(order_ids=ids, view=VIEW_SUMMARY)
    assert [order.order_id for order in (await ask(orders.BatchGetOrders, summaries)).orders] == ids


async def copies(engine: AsyncEngine, order_id: str, number: int) -> list[str]:
    """Inserts `number` copies of this order by SQL, with rising ids: to place each takes too long
    for a test.
    """
    ids = [str(uuid7()) for _ in range(number)]
    async with engine.begin() as connection:
        for name, own in (
            ("orders", "id"),
            ("order_lines", "order_id"),
            ("allocations", "order_id"),
        ):
            table = tables.metadata.tables[name]
            new: dict[str, Any] = {own: cast(bindparam("id"), Uuid)} | (
                {"number": bindparam("id"), "checkout_key": bindparam("id")} if own == "id" else {}
            )
            columns = [new.get(column.name, column).label(column.name) for column in table.c]
            copied = select(*columns).where(table.c[own] == UUID(order_id))
            await connection.execute(
                insert(table).from_select(list(table.c), copied), [{"id": id} for id in ids]
            )
    return ids


async def test_batch_of_500_line_orders_names_the_fitting_number(
    orders: Orders, engine: AsyncEngine
) -> None:
    """60 orders of 500 lines are more than 4 MiB, for which gRPC once answered RESOURCE_EXHAUSTED
    without a reason. The refusal names the number that fits, and that number is true.
    """
    wide = [
        item(f"sku-{n:03} of some length", 7, discount_amount=pounds(1), tax_amount=pounds(2))
        for n in range(500)
    ]
    first = (await create(orders, create_order(*wide))).order_id
    ids = [first, *await copies(engine, first, 59)]
    with pytest.raises(Refused) as refused:
        await ask(
            orders.BatchGetOrders,
            order_service_pb2.BatchGetOrdersRequest(order_ids=ids),
            timeout_s=60,
        )
    assert refused.value.reason == "ANSWER_TOO_LARGE"
    fitting = int(refused.value.metadata["records_max"])
    some = order_service_pb2.BatchGetOrdersRequest(order_ids=ids[:fitting])
    answer = await ask(orders.BatchGetOrders, some, timeout_s=60)
    assert 3 << 20 < answer.ByteSize() < 4 << 20
    summaries = order_service_pb2.BatchGetOrdersRequest(order_ids=ids, view=VIEW_SUMMARY)
    assert len((await ask(orders.BatchGetOrders, summaries, timeout_s=60)).orders) == 60
    every = order_service_pb2.ListOrdersRequest(page_size=1000)
    page = await ask(orders.ListOrders, every, timeout_s=60)
    newest = ids[::-1][: len(page.orders)]
    assert [order.order_id for order in page.orders] == newest
    assert page.next_page_token
    assert 3 << 20 < page.ByteSize() < 4 << 20


async def create_five_orders(orders: Orders) -> list[order_pb2.Order]:
    """Creates five orders "r0" to "r4" of the customers "even" and "odd", in turn."""
    made = []
    for n in range(5):
        items = [item(), item("BULB")] if n == 2 else [item()]
        made.append(
            await create(
                orders,
                create_order(
                    *items, customer_id="odd" if n % 2 else "even", external_reference=f"r{n}"
                ),
            )
        )
    return made


@pytest.mark.parametrize(("page_size", "bounded"), [(2, False), (1000, True)])
async def test_lists_page_newest_first(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, page_size: int, bounded: bool
) -> None:
    """The pages have each order once and are no larger than a client accepts."""
    made = await create_five_orders(orders)
    every = order_service_pb2.ListOrdersRequest()
    with monkeypatch.context() as patch:
        if bounded:
            patch.setattr(paging, "ANSWER_BYTES_MAX", room_for(made[2], made[1]))
        found = [
            [order.order_id for order in page]
            async for page in pages(orders.ListOrders, every, "orders", size=page_size)
        ]
    assert [id for page in found for id in page] == [order.order_id for order in reversed(made)]
    assert list(map(len, found)) == [2, 2, 1]


async def test_list_filters_must_all_match(orders: Orders) -> None:
    """All filters must match; a token of another filter is refused."""
    made = await create_five_orders(orders)
    wanted = order_service_pb2.ListOrdersRequest(
        customer_id="odd", statuses=[order_pb2.ORDER_STATUS_PENDING]
    )
    assert {
        order.external_reference for order in (await ask(orders.ListOrders, wanted)).orders
    } == {"r1", "r3"}
    by_time = order_service_pb2.ListOrdersRequest(
        create_time_from=made[1].create_time, create_time_before=made[3].create_time
    )
    assert [
        order.external_reference for order in (await ask(orders.ListOrders, by_time)).orders
    ] == ["r2", "r1"]
    for stock, all_of_them in (
        (order_pb2.STOCK_STATUS_RESERVED, 5),
        (order_pb2.STOCK_STATUS_COMMIT_PENDING, 0),
    ):
        assert (
            len(
                (
                    await ask(
                        orders.ListOrders, order_service_pb2.ListOrdersRequest(stock_status=stock)
                    )
                ).orders
            )
            == all_of_them
        )
    by_number = order_service_pb2.ListOrdersRequest(order_number=made[0].order_number)
    assert [order.order_id for order in (await ask(orders.ListOrders, by_number)).orders] == [
        made[0].order_id
    ]
    first = await ask(orders.ListOrders, order_service_pb2.ListOrdersRequest(page_size=1))
    for token, other in ((first.next_page_token, "odd"), ("nonsense", None)):
        with pytest.raises(Invalid) as refused:
            await ask(
                orders.ListOrders,
                order_service_pb2.ListOrdersRequest(page_token=token, customer_id=other),
            )
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_recipient_is_readable_and_in_no_event(orders: Orders, engine: AsyncEngine) -> None:
    """GetOrderRecipient answers the name and the address; no row of the outbox has them."""
    order = await create(orders, create_order())
    asked = order_service_pb2.GetOrderRecipientRequest(order_id=order.order_id)
    assert (await ask(orders.GetOrderRecipient, asked)).recipient == RECIPIENT
    async with engine.connect() as connection:
        payloads = (await connection.execute(select(tables.outbox.c.payload))).scalars().all()
    assert payloads
    assert not any(b"Ada" in payload or b"Test Street" in payload for payload in payloads)


async def test_watch_sends_snapshot_then_steps_and_resumes(
    orders: Orders, operations: Operations
) -> None:
    """A watch sends a snapshot, each step as it happens, and heartbeats between them. A resumed
    watch sends the steps after its token, and no snapshot.
    """
    order = await create(orders, create_order())
    looking = asyncio.create_task(operations.reading.watches.run())
    try:
        watch = orders.WatchOrder(
            order_service_pb2.WatchOrderRequest(order_id=order.order_id), timeout=10
        )
        first = await read(watch)
        assert first.snapshot == order
        [known] = await operations.reading.get_orders([UUID(order.order_id)])
        await operations.payments.confirm_payments([pay(known)])
        updates = [await read(watch)]
        while updates[-1].WhichOneof("update") != "transition":
            updates.append(await read(watch))
        assert updates[-1].transition.new_status == order_pb2.ORDER_STATUS_CONFIRMED
        while updates[-1].WhichOneof("update") != "heartbeat":
            updates.append(await read(watch))
        watch.cancel()
        again = order_service_pb2.WatchOrderRequest(
            order_id=order.order_id, resume_token=first.resume_token
        )
        resumed = orders.WatchOrder(again, timeout=10)
        assert (await read(resumed)).transition.order_version == 2
        resumed.cancel()
    finally:
        looking.cancel()


async def test_watch_sends_all_stored_steps_at_once(
    orders: Orders, database: Database, warehouse: FakeWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch reads four steps two by two. All come at once, though nothing changes and no
    heartbeat is due.
    """
    monkeypatch.setattr("order_svc.operations.reading.HISTORY_BATCH", 2)
    operations = Operations(database, warehouse, heartbeat_s=600)
    order_id = UUID((await create(orders, create_order(item("LAMP", 4)))).order_id)
    [order] = await operations.reading.get_orders([order_id])
    for _ in range(3):
        await operations.cancellation.cancel(cancel_items(order, {1: 1}))
    async with asyncio.timeout(30), aclosing(operations.reading.watch_order(order_id, 0)) as watch:
        assert [(await anext(watch))[1] for _ in range(4)] == [1, 2, 3, 4]


async def test_watch_with_a_foreign_token_is_refused(
    orders: Orders,
) -> None:
    """A version that the order has not reached is OUT_OF_RANGE; a token of another order, or an
    invalid one, is a bad field.
    """
    one, other = await create(orders, create_order()), await create(orders, create_order())

    async def refusal(token: str) -> Exception:
        return await orders_error(orders, one.order_id, token)

    ahead = resume_token(UUID(one.order_id), 99)
    foreign = resume_token(UUID(other.order_id), 1)
    assert isinstance(await refusal(ahead), OutOfRange)
    for token in (foreign, resume_token(UUID(one.order_id), -(10**10))):
        assert isinstance(await refusal(token), Invalid)


async def orders_error(orders: Orders, order_id: str, token: str) -> Exception:
    """Returns the error that ends a watch with this token."""
    watch = orders.WatchOrder(
        order_service_pb2.WatchOrderRequest(order_id=order_id, resume_token=token), timeout=5
    )
    try:
        await read(watch)
    except grpc.aio.AioRpcError as error:
        return decode(error, "order")
    raise AssertionError("the watch was not refused")


async def test_transitions_are_listed_oldest_first_by_pages(
    orders: Orders, operations: Operations
) -> None:
    """The history has a row for each step, with its actor and reason."""
    order = await create(orders, create_order())
    [known] = await operations.reading.get_orders([UUID(order.order_id)])
    await operations.payments.confirm_payments([pay(known)])
    request = order_service_pb2.ListOrderTransitionsRequest(order_id=order.order_id, page_size=1)
    first = await ask(orders.ListOrderTransitions, request)
    request.page_token = first.next_page_token
    second = await ask(orders.ListOrderTransitions, request)
    assert [transition.reason for transition in (*first.transitions, *second.transitions)] == [
        "ORDER_PLACED",
        "PAYMENT_CONFIRMED",
    ]
    assert second.transitions[0].old_status == order_pb2.ORDER_STATUS_PENDING
    assert not second.next_page_token
