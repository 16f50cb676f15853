"""Checkouts, over a real channel and a real PostgreSQL: their orders, repeats and refusals."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import (
    Deferred,
    Exists,
    Invalid,
    Refused,
    Violation,
)
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.requests import (
    Orders,
    count,
    create,
    create_order,
    item,
    pounds,
)


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


async def test_order_expires_after_half_an_hour(orders: Orders, warehouse: FakeWarehouse) -> None:
    """The order's stock is reserved for five minutes more, so that the order expires first."""
    order = await create(orders, create_order())
    assert order.expire_time.ToDatetime() - order.create_time.ToDatetime() == timedelta(minutes=30)
    assert warehouse.ttls == [timedelta(minutes=35)]


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
