"""The whole service in this process: its server, inbox, relay and workers, on real PostgreSQL
and NATS.
"""

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
    RefundCompleted,
)
from ordermesh.payment.v1 import payment_service_pb2 as api
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.consume.delivery import Delivery
from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.decision import Done
from devstack.ports import free_ports
from payment_svc import consumers
from payment_svc.app import running
from payment_svc.config import Config
from tests.integration.payment.world import (
    FakeOrders,
    LedgerReader,
    Payments,
    World,
    create_payment,
    items_cancelled,
    order_service,
    pay,
    pounds,
    publish,
    published,
    refused,
    return_changed,
    status_changed,
    status_of,
)
from tests.support import Eventually


@pytest.fixture
async def service(
    payment_url: str, nats_url: str, broker: Broker, orders: FakeOrders
) -> AsyncIterator[Payments]:
    """A client of the running service."""
    [port] = free_ports(1)
    async with order_service(orders) as order_address:
        config = Config(
            database_url=SecretStr(payment_url),
            nats_url=SecretStr(nats_url),
            listen_address=f"127.0.0.1:{port}",
            order_address=order_address,
            processor_timeout_s=1.0,
            settle_after_s=0.2,
            settle_interval_s=0.1,
            drain_delay_s=0.0,
        )
        async with running(config), client.connect(config.listen_address) as channel:
            yield PaymentServiceStub(channel)


async def test_each_paid_order_is_published_once(
    service: Payments, broker: Broker, orders: FakeOrders, eventually: Eventually
) -> None:
    """Orders are paid at once, late by webhook, after a lost answer, without a cost, and declined.
    Every order's event comes twice, for some after the call.

    Each order has one event, of its attempt.
    """
    tokens = ["tok_ok", "tok_ok_late", "tok_timeout_charged", "tok_declined_stolen"]
    by_token = {token: orders.place(pounds(10)) for token in tokens}
    free = orders.place(pounds(0))
    await publish(broker, status_changed(by_token["tok_ok"]), by_token["tok_ok"].order_id)
    await publish(broker, status_changed(free), free.order_id)
    assert status_of(await pay(service, create_payment(by_token["tok_ok"]))) == "captured"
    assert status_of(
        await pay(service, create_payment(by_token["tok_ok_late"], "tok_ok_late"))
    ) in ("pending", "captured")
    # the client repeats the call
    await pay(service, create_payment(by_token["tok_timeout_charged"], "tok_timeout_charged"))
    await refused(service, create_payment(by_token["tok_declined_stolen"], "tok_declined_stolen"))
    for order in by_token.values():
        await publish(broker, status_changed(order), order.order_id)

    async def all_published() -> bool:
        return len(await published(broker)) >= 5

    await eventually(all_published, timeout_s=30)
    events = {event.order_id: event for event in await published(broker)}
    assert len(events) == len(await published(broker)) == 5
    kinds = {token: type(events[order.order_id]) for token, order in by_token.items()}
    assert kinds == dict.fromkeys(tokens[:3], PaymentConfirmed) | {
        "tok_declined_stolen": PaymentFailed
    }
    assert events[free.order_id].not_required


async def test_lost_answer_is_settled_without_a_call(
    service: Payments,
    broker: Broker,
    orders: FakeOrders,
    ledger: LedgerReader,
    eventually: Eventually,
) -> None:
    """The storefront calls once and cancels: the worker finds the charge and publishes its
    event.
    """
    request = create_payment(orders.place(pounds(10)), "tok_timeout_charged")
    call = service.CreatePayment(request, timeout=30)
    await eventually(ledger.charged)
    call.cancel()

    async def captured() -> bool:
        page = await ask(service.ListPayments, api.ListPaymentsRequest(order_id=request.order_id))
        return [status_of(payment) for payment in page.payments] == ["captured"]

    await eventually(captured)
    await eventually(lambda: published(broker))
    assert [type(event) for event in await published(broker)] == [PaymentConfirmed]


async def test_money_of_closed_orders_is_refunded_without_a_call(
    service: Payments,
    broker: Broker,
    orders: FakeOrders,
    ledger: LedgerReader,
    eventually: Eventually,
) -> None:
    """Orders end after a payment, an authorisation, a late or a lost answer, and a late or lost
    refund; each event comes twice.

    All captured money is refunded, and each refund has one event.
    """
    tokens = [
        "tok_ok",
        "tok_ok_late",
        "tok_timeout_charged",
        "tok_refund_late",
        "tok_refund_timeout",
        "tok_refund_unavailable_once",
    ]
    placed = [orders.place(pounds(10)) for _ in tokens]
    for order, token in zip(placed, tokens, strict=True):
        await pay(service, create_payment(order, token))
    set_aside = orders.place(pounds(7))
    await pay(service, create_payment(set_aside, manual_capture=True))
    for order in (*placed, set_aside):
        closed = orders.place(
            order.total_amount, order_id=order.order_id, status="CANCELLED", version=2
        )
        await publish(broker, status_changed(closed), order.order_id)

    async def all_published() -> bool:
        return sum(isinstance(event, RefundCompleted) for event in await published(broker)) == len(
            tokens
        )

    await eventually(all_published, timeout_s=30)
    assert await ledger.charged() == {"charge": 1_000 * len(tokens)}
    assert await ledger.refunded_and_voided() == {"refund": 1_000 * len(tokens), "void": 700}
    refunds = [
        event.refund.order_id
        for event in await published(broker)
        if isinstance(event, RefundCompleted)
    ]
    assert sorted(refunds) == sorted(order.order_id for order in placed)


# --- repeated events in every order, handed over as the inbox does


def life(order_id: str) -> list[order_pb2.Order]:
    """Returns the versions of an order that failed, was retried, and was paid."""
    steps = [("PENDING", 1), ("FAILED", 1), ("PENDING", 2), ("CONFIRMED", 2)]
    return [
        order_pb2.Order(
            order_id=order_id,
            version=version,
            attempt=attempt,
            status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}"),
            total_amount=pounds(10),
        )
        for version, (status, attempt) in enumerate(steps, 1)
    ]


def deliveries(events: Sequence[OrderStatusChanged | OrderItemsCancelled]) -> list[Delivery[Any]]:
    ids = [
        UUID(int=UUID(event.order_id).int << 3 & (1 << 128) - 1 | event.order_version)
        for event in events
    ]
    return [
        Delivery(
            event_id=id,
            key=f"payment-orders:{id}",
            request_hash=b"",
            message=event,
            time=event.occur_time.ToDatetime(),
        )
        for id, event in zip(ids, events, strict=True)
    ]


async def test_order_events_in_any_order_leave_the_same_account(
    world: World, engine: AsyncEngine
) -> None:
    """All 24 orders of delivery, each event twice, in sets of any size: the account has the last
    version, and no other change.
    """
    handlers = consumers.handlers(world.operations.writer)
    for number, shuffled in enumerate(itertools.permutations(range(4))):
        versions = life(str(UUID(int=number + 1)))
        events: list[OrderStatusChanged] = [
            status_changed(versions[step]) for step in (*shuffled, *reversed(shuffled))
        ]
        size = number % 8 + 1
        for start in range(0, len(events), size):
            outcomes = await handlers[OrderStatusChanged](deliveries(events[start : start + size]))
            assert all(isinstance(outcome, Done) for outcome in outcomes)
    async with engine.connect() as connection:
        rows = (
            await connection.execute(
                text("select distinct version, attempt, status, total, currency from accounts")
            )
        ).all()
        accounts = (await connection.execute(text("select count(*) from accounts"))).scalar_one()
    assert [tuple(row) for row in rows] == [(4, 2, "confirmed", 1000, "GBP")]
    assert accounts == 24
    assert await world.ledger.events() == []


async def test_free_orders_in_one_set_are_paid_each_once(world: World) -> None:
    """One set has repeats, two attempts of one order, and an order that has ended already."""
    attempts = life(str(uuid4()))[:3]
    closed, other = life(str(uuid4()))[:2], life(str(uuid4()))[0]
    for order in (*attempts, *closed, other):
        order.total_amount.CopyFrom(pounds(0))
    events: list[OrderStatusChanged] = [
        status_changed(order)
        for order in (*attempts, closed[1], closed[0], other, *attempts, other)
    ]
    handlers = consumers.handlers(world.operations.writer)
    await handlers[OrderStatusChanged](deliveries(events))
    paid = [(event.order_id, event.attempt) for event in await world.ledger.events()]
    assert sorted(paid) == sorted(
        [(attempts[0].order_id, 1), (attempts[0].order_id, 2), (other.order_id, 1)]
    )


def return_deliveries(event: ReturnStatusChanged, count: int) -> list[Delivery[Any]]:
    """Returns the event as many times as the inbox delivers it."""
    id = UUID(event.order_return.return_id)
    delivery = Delivery(
        event_id=id,
        key=f"payment-orders:{id}",
        request_hash=b"",
        message=event,
        time=event.occur_time.ToDatetime(),
    )
    return [delivery] * count


async def settled_sums(world: World) -> tuple[list[Any], list[Any]]:
    """Settles all operations. Returns the different sums of a payment's refunds by their causes,
    and the different states of payments.
    """
    async with world.ledger.engine.connect() as connection:
        while (
            await connection.execute(
                text("select count(*) from operations where next_lookup_time is not null")
            )
        ).scalar_one():
            await world.operations.settlement.settle_due()
        by_cause = "select payment_id, sum(amount) filter (where cause = 'order') as by_order, "
        by_cause += (
            "sum(amount) filter (where cause = 'return') as by_return from operations group by"
            " payment_id"
        )
        sums = (
            await connection.execute(
                text(f"select distinct by_order, by_return from ({by_cause}) of_each")
            )
        ).all()
        payments = (
            await connection.execute(
                text("select distinct status, captured, refunded, refund_pending from payments")
            )
        ).all()
    return [tuple(row) for row in sums], [tuple(row) for row in payments]


async def test_repeated_and_reordered_events_refund_the_same(
    world: World,
) -> None:
    """Units are cancelled twice, the order is delivered, and a return comes: all 24 orders of
    delivery, each event twice, in sets of any size.

    Each cause refunds the same amount, and the sandbox has refunded exactly these.
    """
    handlers = consumers.handlers(world.operations.writer)
    for number, shuffled in enumerate(itertools.permutations(range(4))):
        placed = await world.order(pounds(42, 50))
        await world.pay(create_payment(placed))
        incoming = [("CONFIRMED", 2, 40), ("PROCESSING", 3, 30), ("DELIVERED", 4, 30)]
        later = [
            world.orders.place(
                pounds(units), order_id=placed.order_id, status=status, version=version
            )
            for status, version, units in incoming
        ]
        back = return_changed(later[2], pounds(10))
        events: list[OrderStatusChanged | OrderItemsCancelled] = [
            items_cancelled(later[0]),
            items_cancelled(later[1]),
            status_changed(later[2]),
        ]
        arriving = [*shuffled, *reversed(shuffled)]
        size = number % 8 + 1
        for start in range(0, len(arriving), size):
            some = arriving[start : start + size]
            outcomes = [
                *await handlers[OrderStatusChanged](
                    deliveries([events[step] for step in some if step < 3])
                )
            ]
            outcomes += await handlers[ReturnStatusChanged](return_deliveries(back, some.count(3)))
            assert all(isinstance(outcome, Done) for outcome in outcomes)

    sums, payments = await settled_sums(world)
    assert sums == [(1_250, 1_000)]
    assert payments == [("partially_refunded", 4_250, 2_250, 0)]
    assert await world.ledger.refunded_and_voided() == {"refund": 24 * 2_250}


async def test_return_without_money_is_done_and_stores_nothing(world: World) -> None:
    """Returns that are announced, received, closed, or worth nothing store nothing, also for an
    unknown order.
    """
    order = world.orders.place(pounds(10))
    events = [
        return_changed(order, pounds(1), status=status)
        for status in ("REQUESTED", "RECEIVED", "CLOSED")
    ]
    events.append(return_changed(order, pounds(0)))
    incoming = [
        Delivery(
            event_id=(id := uuid4()),
            key=f"payment-orders:{id}",
            request_hash=b"",
            message=event,
            time=event.occur_time.ToDatetime(),
        )
        for event in events
    ]
    outcomes = await consumers.handlers(world.operations.writer)[ReturnStatusChanged](incoming)
    assert [isinstance(outcome, Done) for outcome in outcomes] == [True] * 4
