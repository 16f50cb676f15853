"""The whole service in this process: its server, inbox, relay and workers, on real PostgreSQL and NATS."""

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed, PaymentFailed
from ordermesh.payment.v1 import payment_service_pb2 as api
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import client
from chassis.client import ask
from chassis.decision import Done
from chassis.inbox import Delivery
from chassis.stream import Broker, stream_of, subject_of
from devstack.ports import free_ports
from payment_svc.app import running
from payment_svc.config import Config
from payment_svc.consumers import Consumers
from tests.integration.payment.world import (
    Books,
    FakeOrders,
    Payments,
    World,
    create_payment,
    order_service,
    pay,
    pounds,
    refused,
    status_changed,
    status_of,
    told,
)
from tests.support import Eventually


@pytest.fixture
async def service(payment_url: str, nats_url: str, broker: Broker, orders: FakeOrders) -> AsyncIterator[Payments]:
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
            settle_every_s=0.1,
            drain_delay_s=0.0,
        )
        async with running(config), client.connect(config.listen_address) as channel:
            yield PaymentServiceStub(channel)


async def publish(broker: Broker, order: order_pb2.Order, *, times: int = 2) -> None:
    """The order's event, each time as a new message to the broker: only the consumer can know it by its id."""
    event, event_id = status_changed(order), uuid4()
    subject = subject_of(type(event))
    for _ in range(times):
        headers = {
            "Nats-Msg-Id": str(uuid4()),
            "ce-id": str(event_id),
            "ce-type": event.DESCRIPTOR.full_name,
            "ce-subject": order.order_id,
        }
        await broker.publish(subject, event.SerializeToString(), headers, stream=stream_of(subject))


async def test_orders_are_paid_and_the_world_hears_of_each_once(
    service: Payments, broker: Broker, orders: FakeOrders, eventually: Eventually
) -> None:
    """Paid at once, late by webhook, after a lost answer, for nothing, and not at all; every order's event comes twice, some after the
    call: one event for each order, of its attempt."""
    tokens = ["tok_ok", "tok_ok_late", "tok_timeout_charged", "tok_declined_stolen"]
    by_token = {token: orders.place(pounds(10)) for token in tokens}
    free = orders.place(pounds(0))
    await publish(broker, by_token["tok_ok"])
    await publish(broker, free)
    assert status_of(await pay(service, create_payment(by_token["tok_ok"]))) == "captured"
    assert status_of(await pay(service, create_payment(by_token["tok_ok_late"], "tok_ok_late"))) in ("pending", "captured")
    await pay(service, create_payment(by_token["tok_timeout_charged"], "tok_timeout_charged"))  # the client asks again by itself
    await refused(service, create_payment(by_token["tok_declined_stolen"], "tok_declined_stolen"))
    for order in by_token.values():
        await publish(broker, order)

    async def all_told() -> bool:
        return len(await told(broker)) >= 5

    await eventually(all_told)
    events = {event.order_id: event for event in await told(broker)}
    assert len(events) == len(await told(broker)) == 5
    kinds = {token: type(events[order.order_id]) for token, order in by_token.items()}
    assert kinds == dict.fromkeys(tokens[:3], PaymentConfirmed) | {"tok_declined_stolen": PaymentFailed}
    assert events[free.order_id].not_required


async def test_a_lost_answer_is_settled_with_nobody_asking(
    service: Payments, broker: Broker, orders: FakeOrders, books: Books, eventually: Eventually
) -> None:
    """The storefront asked once and hung up: the worker finds the charge, and tells."""
    request = create_payment(orders.place(pounds(10)), "tok_timeout_charged")
    call = service.CreatePayment(request, timeout=30)
    await eventually(books.charged)
    call.cancel()

    async def captured() -> bool:
        page = await ask(service.ListPayments, api.ListPaymentsRequest(order_id=request.order_id))
        return [status_of(payment) for payment in page.payments] == ["captured"]

    await eventually(captured)
    await eventually(lambda: told(broker))
    assert [type(event) for event in await told(broker)] == [PaymentConfirmed]


# --- events twice and in every order, handed over as the inbox does


def life(order_id: str) -> list[order_pb2.Order]:
    """An order that failed, was tried again, and was paid."""
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


def deliveries(events: Sequence[OrderStatusChanged]) -> list[Delivery[Any]]:
    ids = [UUID(int=UUID(event.order_id).int << 3 & (1 << 128) - 1 | event.order_version) for event in events]
    return [Delivery(id, f"payment-orders:{id}", b"", event, event.occur_time.ToDatetime()) for id, event in zip(ids, events, strict=True)]


async def test_an_orders_events_twice_and_in_every_order_leave_the_same_account(world: World, engine: AsyncEngine) -> None:
    """All 24 orders of delivery, each event twice, in sets of any size: the account knows the last version, and nothing else happened."""
    consumers = Consumers(world.operations)
    for number, shuffled in enumerate(itertools.permutations(range(4))):
        its = life(str(UUID(int=number + 1)))
        events: list[OrderStatusChanged] = [status_changed(its[step]) for step in (*shuffled, *reversed(shuffled))]
        size = number % 8 + 1
        for start in range(0, len(events), size):
            outcomes = await consumers.order_changed(deliveries(events[start : start + size]))
            assert all(isinstance(outcome, Done) for outcome in outcomes)
    async with engine.connect() as connection:
        rows = (await connection.execute(text("select distinct version, attempt, status, total, currency from accounts"))).all()
        accounts = (await connection.execute(text("select count(*) from accounts"))).scalar_one()
    assert [tuple(row) for row in rows] == [(4, 2, "confirmed", 1000, "GBP")]
    assert accounts == 24
    assert await world.books.events() == []


async def test_free_orders_in_one_set_are_paid_each_once(world: World) -> None:
    """A batch with repeats, with two attempts of one order, and with an order that is dead already."""
    attempts = life(str(uuid4()))[:3]
    dead, other = life(str(uuid4()))[:2], life(str(uuid4()))[0]
    for order in (*attempts, *dead, other):
        order.total_amount.CopyFrom(pounds(0))
    events: list[Message] = [status_changed(order) for order in (*attempts, dead[1], dead[0], other, *attempts, other)]
    await Consumers(world.operations).order_changed(deliveries(events))  # type: ignore[arg-type]  # they are
    paid = [(event.order_id, event.attempt) for event in await world.books.events()]
    assert sorted(paid) == sorted([(attempts[0].order_id, 1), (attempts[0].order_id, 2), (other.order_id, 1)])
