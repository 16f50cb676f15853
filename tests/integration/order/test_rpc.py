"""The order service's methods, over a real channel and a real PostgreSQL."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, VIEW_UNSPECIFIED
from sqlalchemy import Uuid, bindparam, cast, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from chassis.rpc.client import ask, pages
from chassis.rpc.status import decode
from chassis.values import paging
from chassis.values.convert import resume_token
from chassis.values.errors import (
    Deferred,
    Exists,
    Invalid,
    NotFound,
    OutOfRange,
    Refused,
    Violation,
)
from chassis.write.database import Database
from order_svc import tables
from order_svc.app import Operations
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.requests import RECIPIENT, Orders, create_order, item, pounds
from tests.support import room_for
from tests.unit.order.samples import cancel_items, pay


async def create(orders: Orders, request: order_service_pb2.CreateOrderRequest) -> order_pb2.Order:
    return (await ask(orders.CreateOrder, request)).order


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


async def read(watch: Any) -> order_service_pb2.WatchOrderResponse:
    response = await watch.read()
    assert isinstance(response, order_service_pb2.WatchOrderResponse)
    return response


async def test_checkout_makes_a_pending_order_with_its_price(orders: Orders) -> None:
    """Totals are as the storefront sent them, shares add up to them, and GetOrder answers the same
    as CreateOrder.
    """
    request = create_order(
        item("LAMP", 3, 10, discount_amount=pounds(1), tax_amount=pounds(2)),
        item("LAMP", 1, 10),
        discount_amount=pounds(0, 50),
        shipping_amount=pounds(4, 95),
        customer_id="c-1",
        external_reference="536365",
    )
    order = await create(orders, request)
    assert (order.status, order.attempt, order.version) == (order_pb2.ORDER_STATUS_PENDING, 1, 1)
    assert order.total_amount == pounds(45, 45)
    assert [line.line_number for line in order.items] == [1, 2]
    for line in order.items:
        cents = sum(
            share.quantity * (share.amount.units * 100 + share.amount.nanos // 10_000_000)
            for share in line.unit_shares
        )
        assert cents == line.total_amount.units * 100 + line.total_amount.nanos // 10_000_000
    assert (
        await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order.order_id))
    ).order == order


async def test_repeated_checkout_answers_the_same_order(
    orders: Orders, engine: AsyncEngine
) -> None:
    """Twenty concurrent repeats and a later one answer the same order; the request_id with another
    body is REQUEST_ID_REUSED.
    """
    request = create_order()
    several = await asyncio.gather(*(create(orders, request) for _ in range(20)))
    assert {order.order_id for order in [*several, await create(orders, request)]} == {
        several[0].order_id
    }
    assert await count(engine, "orders", "history", "outbox", "recipients") == [1, 1, 1, 1]
    with pytest.raises(Invalid) as refused:
        await create(orders, create_order(item("OTHER"), request_id=request.request_id))
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_retry_after_a_crash_uses_the_first_reservation(
    orders: Orders, warehouse: FakeWarehouse
) -> None:
    """The warehouse has stored the first request's order id, and the retry's order uses it."""
    request, first = create_order(), uuid4()
    await create(orders, create_order())
    [(_, allocations)] = warehouse.reserved.values()
    warehouse.reserved[UUID(request.request_id)] = first, allocations
    assert (await create(orders, request)).order_id == str(first)


@pytest.mark.parametrize(
    ("reason", "violations"),
    [
        ("INSUFFICIENT_STOCK", [Violation("LAMP", "requested 1, sellable 0", "STOCK")]),
        ("TOO_MANY_WAREHOUSES", []),
    ],
)
async def test_checkout_refused_by_the_warehouse_is_not_stored(
    orders: Orders,
    warehouse: FakeWarehouse,
    engine: AsyncEngine,
    reason: str,
    violations: list[Violation],
) -> None:
    """Too little stock, or units in too many warehouses: the caller gets the reason and the
    violations, and no order is stored. The same request may succeed later.
    """
    request = create_order()
    warehouse.refuses = Refused(reason, "It cannot be reserved.", violations=violations)
    with pytest.raises(Refused) as refused:
        await create(orders, request)
    assert refused.value.reason == reason
    assert [each.subject for each in refused.value.violations] == [v.subject for v in violations]
    assert await count(engine, "orders", "idempotency_keys", "outbox") == [0, 0, 0]
    warehouse.refuses = None
    await create(orders, request)
    assert await count(engine, "orders") == [1]


async def test_unreachable_warehouse_is_reported_as_unavailable(
    orders: Orders, warehouse: FakeWarehouse
) -> None:
    """UNAVAILABLE with DEPENDENCY_UNAVAILABLE: the caller may try again."""
    warehouse.away = True
    with pytest.raises(Deferred) as deferred:
        await create(orders, create_order())
    assert deferred.value.reason == "DEPENDENCY_UNAVAILABLE"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (create_order(item(quantity=0)), "items[0].quantity"),
        (create_order(item(sku="")), "items[0].sku"),
        (create_order(item("A"), item("B", price=-1)), "items[1].unit_price"),
        (create_order(request_id="not-a-uuid"), "request_id"),
        (create_order(recipient=None), "recipient"),
        (create_order(item(discount_amount=pounds(11))), "items[0].discount_amount"),
        (
            create_order(shipping_amount=Money(currency_code="EUR", units=1)),
            "shipping_amount.currency_code",
        ),
        (create_order(shipping_amount=Money(currency_code="GBP", nanos=1)), "shipping_amount"),
        (create_order(item("A" * 65)), "items[0].sku"),
        (create_order(item(price=10**12 + 1)), "items[0].unit_price"),
        (
            create_order(
                item(unit_price=Money(currency_code="GBP", units=10**12, nanos=10_000_000))
            ),
            "items[0].unit_price",
        ),
        (create_order(item(price=10**12, quantity=2, discount_amount=pounds(10**12))), "items"),
        (create_order(item(price=10**12), shipping_amount=pounds(0, 1)), "items"),
        (create_order(*[item()] * 501), "items"),
        (create_order(item(), item(" LAMP")), "items[1].sku"),
        (create_order(item("LAMP\u00a0")), "items[0].sku"),
        (create_order(item("LA\tMP")), "items[0].sku"),
        (create_order(item("LA\u202eMP")), "items[0].sku"),
        (create_order(item("\u200dLAMP")), "items[0].sku"),
        (create_order(item("LAMP\u200c")), "items[0].sku"),
        (create_order(unique_external_reference=True), "unique_external_reference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_bad_input_names_its_field(
    orders: Orders, request_: order_service_pb2.CreateOrderRequest, field: str
) -> None:
    """The answer is VALIDATION_FAILED with the path of the bad field, before any stock is
    reserved.
    """
    with pytest.raises(Invalid) as refused:
        await create(orders, request_)
    assert refused.value.reason == "VALIDATION_FAILED"
    assert field in [violation.subject for violation in refused.value.violations]


async def test_sku_is_stored_composed(orders: Orders) -> None:
    """A SKU is stored in NFC, and joiners inside it stay. The same request with a decomposed SKU is
    the same request.
    """
    composed, decomposed, joined = (
        "Caf\u00e9",
        "Cafe\u0301",
        "\U0001f469\u200d\U0001f4bb \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    )
    request = create_order(item(decomposed), item(joined))
    order = await create(orders, request)
    assert [line.sku for line in order.items] == [composed, joined]
    again = create_order(item(composed), item(joined), request_id=request.request_id)
    assert (await create(orders, again)).order_id == order.order_id


@pytest.mark.parametrize(
    "request_",
    [create_order(item(price=10**12 + 1)), create_order(item(price=10**12), item())],
    ids=["a field", "a sum"],
)
async def test_amount_too_high_is_refused_with_both_bounds(
    orders: Orders, request_: order_service_pb2.CreateOrderRequest
) -> None:
    """A single amount and the sum of an order have the same bounds, and the refusal names both."""
    with pytest.raises(Invalid) as refused:
        await create(orders, request_)
    [violation] = refused.value.violations
    assert {"0", "1000000000000"} <= set(violation.description.split())


async def test_order_of_the_highest_amount_is_placed(orders: Orders) -> None:
    """10^12 units, also of a currency with four decimal digits: every money field can hold the cost
    of an order.
    """
    for currency in ("GBP", "CLF"):
        amount = Money(currency_code=currency, units=10**12)
        order = await create(orders, create_order(item(unit_price=amount)))
        assert (
            order.total_amount
            == order.subtotal_amount
            == order.items[0].unit_shares[0].amount
            == amount
        )


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


async def test_checkout_takes_any_script_free_items_and_currency(orders: Orders) -> None:
    """An order takes a voucher with spaces, a free gift, yen without decimal digits and dinars with
    three.
    """
    free = await create(orders, create_order(item("gift_0001_20 Grüße 贈り物", 1, 0)))
    assert free.total_amount == Money(currency_code="GBP")
    for currency, nanos in (("JPY", 0), ("KWD", 1_000_000)):
        amount = Money(currency_code=currency, units=1, nanos=nanos)
        request = create_order(
            order_service_pb2.NewOrderItem(sku="A", quantity=2, unit_price=amount)
        )
        assert (await create(orders, request)).total_amount == Money(
            currency_code=currency, units=2, nanos=2 * nanos
        )


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
                {"number": bindparam("id"), "checkout": bindparam("id")} if own == "id" else {}
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


async def test_order_expires_after_half_an_hour(orders: Orders, warehouse: FakeWarehouse) -> None:
    """The order's stock is reserved for five minutes more, so that the order expires first."""
    order = await create(orders, create_order())
    assert order.expire_time.ToDatetime() - order.create_time.ToDatetime() == timedelta(minutes=30)
    assert warehouse.ttls == [timedelta(minutes=35)]


@pytest.mark.parametrize(("page_size", "bounded"), [(2, False), (1000, True)])
async def test_lists_page_newest_first_and_filter(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, page_size: int, bounded: bool
) -> None:
    """The pages have each order once and are no larger than a client accepts. All filters must
    match; a token of another filter is refused.
    """
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


async def test_recipient_is_stored_composed(orders: Orders) -> None:
    """Names and places with combining accents are stored in NFC, as labels and mails print them."""
    recipient = order_pb2.Recipient(
        name="Jose\u0301",
        address_lines=["Rue de l'E\u0301te\u0301 1"],
        locality="Plzen\u030c",
        country_code="CZ",
    )
    order = await create(orders, create_order(recipient=recipient))
    asked = order_service_pb2.GetOrderRecipientRequest(order_id=order.order_id)
    stored = (await ask(orders.GetOrderRecipient, asked)).recipient
    assert (stored.name, stored.address_lines[0], stored.locality) == (
        "José",
        "Rue de l'Été 1",
        "Plzeň",
    )


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
    assert [step.reason for step in (*first.transitions, *second.transitions)] == [
        "ORDER_PLACED",
        "PAYMENT_CONFIRMED",
    ]
    assert second.transitions[0].old_status == order_pb2.ORDER_STATUS_PENDING
    assert not second.next_page_token


def flagged(
    reference: str = "536365", customer: str | None = "ada", **fields: Any
) -> order_service_pb2.CreateOrderRequest:
    """Returns a checkout whose reference must be unique."""
    return create_order(
        customer_id=customer, external_reference=reference, unique_external_reference=True, **fields
    )


@pytest.mark.parametrize("customer", ["ada", None], ids=["a customer", "guests"])
async def test_unique_reference_is_taken_while_its_order_lives(
    orders: Orders, warehouse: FakeWarehouse, engine: AsyncEngine, customer: str | None
) -> None:
    """A second flagged order of the customer is ALREADY_EXISTS with the first one's id, before any
    stock is reserved. Its repeat is answered as before.

    Orders without the flag, of another customer or with another reference are placed. So is the
    second one once the first is cancelled.
    """
    request = flagged(customer=customer)
    first = await create(orders, request)
    assert first.unique_external_reference
    reserved = len(warehouse.reserved)
    with pytest.raises(Exists) as taken:
        await create(orders, flagged(customer=customer))
    assert (taken.value.reason, taken.value.metadata) == (
        "EXTERNAL_REFERENCE_TAKEN",
        {"order_id": first.order_id},
    )
    assert len(warehouse.reserved) == reserved
    assert (await create(orders, request)).order_id == first.order_id
    for other in (
        create_order(customer_id=customer, external_reference="536365"),
        flagged(customer="grace"),
        flagged("536366", customer),
    ):
        assert (await create(orders, other)).order_id != first.order_id
    await ask(
        orders.CancelOrder,
        order_service_pb2.CancelOrderRequest(request_id=str(uuid4()), order_id=first.order_id),
    )
    second = await create(orders, flagged(customer=customer))
    assert second.order_id != first.order_id
    assert await count(engine, "orders") == [5]


async def test_concurrent_unique_references_place_one_order(
    orders: Orders, warehouse: FakeWarehouse, engine: AsyncEngine
) -> None:
    """Of ten concurrent checkouts one is placed; each other gets its id, and releases its own
    stock.
    """
    answers = await asyncio.gather(
        *(create(orders, flagged()) for _ in range(10)), return_exceptions=True
    )
    [placed] = [answer for answer in answers if isinstance(answer, order_pb2.Order)]
    refused = [answer for answer in answers if isinstance(answer, Exists)]
    assert [each.metadata["order_id"] for each in refused] == [placed.order_id] * 9
    assert await count(engine, "orders") == [1]
    released = {order_id for asked in warehouse.asked_to_release for order_id, _ in asked}
    held = {order_id for order_id, _ in warehouse.reserved.values()}
    assert held - released == {UUID(placed.order_id)}


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
async def test_reused_id_with_a_taken_reference_releases_nothing(
    orders: Orders, warehouse: FakeWarehouse, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """The request_id of an order, sent again with a reference that another order holds, is
    REQUEST_ID_REUSED, and the order's stock stays reserved. The same holds where the order is
    placed between the second request's reservation and its write.
    """
    first = flagged("536365")
    reused = flagged("536366", request_id=first.request_id)

    async def place_both() -> None:
        await create(orders, first)
        await create(orders, flagged("536366"))

    async def reserve(*arguments: Any) -> Any:
        monkeypatch.undo()
        reservation = await warehouse.reserve(*arguments)
        await place_both()
        return reservation

    if at_once:
        monkeypatch.setattr(warehouse, "reserve", reserve)
    else:
        await place_both()
    with pytest.raises(Invalid) as refused:
        await create(orders, reused)
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert len(warehouse.reserved) == 2
    assert not warehouse.asked_to_release


async def test_retry_with_a_taken_reference_stays_failed(
    orders: Orders, warehouse: FakeWarehouse, engine: AsyncEngine
) -> None:
    """A failed order no longer holds its reference: where another order holds it by then, the retry
    is refused and the order stays failed.
    """
    first = await create(orders, flagged())
    async with engine.begin() as connection:
        await connection.execute(text("update orders set status = 'failed', expire_time = null"))
    second = await create(orders, flagged())
    with pytest.raises(Exists) as taken:
        await ask(
            orders.RetryOrder,
            order_service_pb2.RetryOrderRequest(request_id=str(uuid4()), order_id=first.order_id),
        )
    assert taken.value.metadata == {"order_id": second.order_id}
    assert (
        await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=first.order_id))
    ).order.status == order_pb2.ORDER_STATUS_FAILED
