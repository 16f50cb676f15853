"""The surroundings of a payment service in tests: an order service whose answers a test sets,
requests, and reads of its tables.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.message import Message
from google.type.money_pb2 import Money
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceServicer,
    add_OrderServiceServicer_to_server,
)
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundCompleted,
    RefundFailed,
)
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api
from ordermesh.payment.v1.payment_service_pb2_grpc import (
    PaymentServiceStub,
    add_PaymentServiceServicer_to_server,
)
from ordermesh.view.v1 import view_pb2
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from chassis.broker.stream import Broker
from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, NotFound
from chassis.values.event_subjects import stream_of, subject_of
from chassis.values.request_context import request_context
from payment_svc import tables
from payment_svc.app import Operations
from payment_svc.model.records import Account, Payment
from payment_svc.providers import sandbox_ledger
from payment_svc.rpc import PaymentService
from payment_svc.store.accounts import find_account
from payment_svc.wire import events_in, requests
from tests.sample.contract_events import order_line
from tests.servers import quick_server
from tests.support import channel_of
from tests.unit.payment.samples import envelope

if TYPE_CHECKING:
    # only the stubs have these names
    from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

C = TypeVar("C")
M = TypeVar("M", bound=Message)
Payments: TypeAlias = "PaymentServiceAsyncStub"
# The events of payments and refunds, without changes of a status.
EVENTS: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (PaymentConfirmed, PaymentFailed, RefundCompleted, RefundFailed)
}


class FakeOrders(OrderServiceServicer):
    """Answers with the orders that a test places, and counts its calls.

    With `away` it is unreachable. A call sets `reached`, and is answered once `gate` is set.
    """

    def __init__(self) -> None:
        self.orders: dict[str, order_pb2.Order] = {}
        self.calls = 0
        self.away = False
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def BatchGetOrders(
        self,
        request: order_service_pb2.BatchGetOrdersRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> order_service_pb2.BatchGetOrdersResponse:
        self.calls += 1
        self.reached.set()
        await self.gate.wait()
        if self.away:
            raise Deferred("DATABASE_NOT_READY", "away")
        assert request.view == view_pb2.VIEW_SUMMARY
        missing = [order_id for order_id in request.order_ids if order_id not in self.orders]
        if missing:
            raise NotFound("ORDER_NOT_FOUND", order_id=", ".join(missing[:10]))
        orders = [self.orders[order_id] for order_id in request.order_ids]
        return order_service_pb2.BatchGetOrdersResponse(orders=orders)

    def place(
        self,
        total: Money,
        *,
        status: str = "PENDING",
        attempt: int = 1,
        version: int = 1,
        order_id: str | None = None,
    ) -> order_pb2.Order:
        """Stores and returns an order as the order service would answer it."""
        order = order_pb2.Order(
            order_id=order_id or str(uuid7()),
            status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}"),
            attempt=attempt,
            version=version,
            total_amount=total,
        )
        self.orders[order.order_id] = order
        return order


def pounds(units: int, pence: int = 0) -> Money:
    return Money(currency_code="GBP", units=units, nanos=pence * 10_000_000)


def status_changed(order: order_pb2.Order) -> OrderStatusChanged:
    """Returns the event of the order's status change."""
    return OrderStatusChanged(
        order_id=order.order_id,
        attempt=order.attempt,
        new_status=order.status,
        total_amount=order.total_amount,
        order_version=order.version,
        items=[order_line()],
        stock_status=order_pb2.STOCK_STATUS_RESERVED,
        payment_status=order_pb2.PAYMENT_STATUS_PENDING,
    )


def items_cancelled(order: order_pb2.Order) -> OrderItemsCancelled:
    """Returns the event of an order that goes on with fewer units."""
    return OrderItemsCancelled(
        order_id=order.order_id,
        attempt=order.attempt,
        status=order.status,
        total_amount=order.total_amount,
        order_version=order.version,
        items=[order_line()],
    )


def return_changed(
    order: order_pb2.Order, worth: Money, *, status: str = "INSPECTED", return_id: str | None = None
) -> ReturnStatusChanged:
    """Returns the event of a return whose accepted units have this refund amount."""
    order_return = return_pb2.Return(
        return_id=return_id or str(uuid7()),
        order_id=order.order_id,
        attempt=order.attempt,
        kind=return_pb2.RETURN_KIND_CUSTOMER,
        refund_amount=worth,
        version=4,
    )
    order_return.status = return_pb2.ReturnStatus.Value(f"RETURN_STATUS_{status}")
    return ReturnStatusChanged(order_return=order_return, new_status=order_return.status)


def delivery(event: M) -> Delivery[M]:
    """Returns a delivery of the event, under an event id of its own."""
    event_id = uuid7()
    return Delivery(
        event_id=event_id,
        key=f"payment-orders:{event_id}",
        request_hash=b"",
        message=event,
        time=datetime.now(UTC),
    )


def request_envelope(kind: type[C], key: str, payment: Payment, **fields: Any) -> Envelope[C]:
    """Returns a request about the payment under this key, as wire makes it of a call."""
    usual = {"payment_id": payment.id, "expected_version": None}
    about = {"key": key, "cause": str(uuid4()), "target": payment.id}
    return envelope(kind, **(about | usual | fields))


def create_payment(
    order: order_pb2.Order, token: str = "tok_ok", **fields: Any
) -> api.CreatePaymentRequest:
    values: dict[str, Any] = {
        "request_id": str(uuid4()),
        "order_id": order.order_id,
        "payment_method_token": token,
    }
    return api.CreatePaymentRequest(**(values | fields))


def status_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_").lower()


async def pay(payments: Payments, request: api.CreatePaymentRequest) -> payment_pb2.Payment:
    return (await ask(payments.CreatePayment, request)).payment


async def refused(payments: Payments, request: api.CreatePaymentRequest) -> Failure:
    """Returns the reason of a refused payment."""
    with pytest.raises(Failure) as caught:
        await ask(payments.CreatePayment, request)
    return caught.value


async def published(broker: Broker) -> list[Any]:
    """Returns every event of the payment service's stream, without changes of status, in its order.

    An event that the broker stored twice is returned once.
    """
    last = (await broker.streams.stream_info("PAYMENTS")).state.last_seq
    messages = [await broker.streams.get_msg("PAYMENTS", seq) for seq in range(1, last + 1)]
    types = [EVENTS.get((message.headers or {})["ce-type"]) for message in messages]
    return [
        kind.FromString(message.data or b"")
        for kind, message in zip(types, messages, strict=True)
        if kind
    ]


async def publish(broker: Broker, event: Message, aggregate: str, *, times: int = 2) -> None:
    """Publishes the event, each time as a new message to the broker: the consumer alone can
    recognise it by its id.
    """
    subject, event_id = subject_of(type(event)), uuid4()
    for _ in range(times):
        headers = {
            "Nats-Msg-Id": str(uuid4()),
            "ce-id": str(event_id),
            "ce-type": event.DESCRIPTOR.full_name,
            "ce-subject": aggregate,
        }
        await broker.publish(subject, event.SerializeToString(), headers, stream=stream_of(subject))


@asynccontextmanager
async def order_service(fake: FakeOrders) -> AsyncIterator[str]:
    """Runs the order service's stand-in; yields its address."""
    async with quick_server([partial(add_OrderServiceServicer_to_server, fake)]) as server:
        yield f"127.0.0.1:{server.port}"


@asynccontextmanager
async def payment_service(operations: Operations) -> AsyncIterator[Payments]:
    """Runs a server over these operations; yields a client of it."""
    service = PaymentService(
        operations.payments,
        operations.settlement,
        operations.reading,
    )
    async with channel_of(partial(add_PaymentServiceServicer_to_server, service)) as channel:
        yield PaymentServiceStub(channel)


@dataclass
class LedgerReader:
    """The contents of the tables: of the service, and of the sandbox processor beside it."""

    engine: AsyncEngine

    async def events(self) -> list[Any]:
        """Returns the events in the outbox, without changes of status, in their order."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                select(tables.outbox.c.type, tables.outbox.c.payload).order_by(tables.outbox.c.id)
            )
            return [EVENTS[kind].FromString(payload) for kind, payload in rows if kind in EVENTS]

    async def status_changes(self) -> list[PaymentStatusChanged]:
        """Returns the changes of status in the outbox, in their order."""
        columns = tables.outbox.c
        of_kind = columns.type == PaymentStatusChanged.DESCRIPTOR.full_name
        async with self.engine.connect() as connection:
            payloads = await connection.execute(
                select(columns.payload).where(of_kind).order_by(columns.id)
            )
            return [PaymentStatusChanged.FromString(payload) for payload in payloads.scalars()]

    async def charged(self) -> Counter[str]:
        """Returns how much money the sandbox has charged and captured, by the kind of request."""
        columns = sandbox_ledger.operations.c
        async with self.engine.connect() as connection:
            query = select(columns.kind, columns.amount).where(
                columns.state == "succeeded", columns.kind.in_(["charge", "capture"])
            )
            taken: Counter[str] = Counter()
            for kind, amount in await connection.execute(query):
                taken[kind] += amount
            return taken

    async def refunded_and_voided(self) -> Counter[str]:
        """Returns how much money the sandbox has refunded and voided, by the kind of request."""
        columns = sandbox_ledger.operations.c
        async with self.engine.connect() as connection:
            query = select(columns.kind, func.sum(columns.amount)).where(
                columns.state == "succeeded", columns.kind.in_(["refund", "void"])
            )
            return Counter(
                {
                    kind: int(amount)
                    for kind, amount in await connection.execute(query.group_by(columns.kind))
                }
            )

    async def processor_operations(self) -> int:
        """Returns the number of operations in the sandbox's ledger."""
        return await self._count("sandbox.operations")

    async def calls(self) -> int:
        """Returns the number of requests that the sandbox received."""
        async with self.engine.connect() as connection:
            return int(
                (
                    await connection.execute(
                        text("select coalesce(sum(calls), 0) from sandbox.calls")
                    )
                ).scalar_one()
            )

    async def dump(self) -> list[list[Any]]:
        """Returns all rows of the service without keys and times of lookups, for comparisons."""
        async with self.engine.connect() as connection:
            queries = (
                select(tables.accounts).order_by(tables.accounts.c.order_id),
                select(tables.payments).order_by(tables.payments.c.id),
                select(tables.operations).order_by(tables.operations.c.id),
                select(tables.history).order_by(
                    tables.history.c.payment_id, tables.history.c.version
                ),
                select(tables.outbox.c.payload).order_by(tables.outbox.c.id),
            )
            return [list(map(tuple, await connection.execute(query))) for query in queries]

    async def make_due(self) -> None:
        """Makes all open operations due for the settling worker."""
        await self._execute(
            "update operations set next_lookup_time = clock_timestamp()"
            " where next_lookup_time is not null"
        )

    async def delete_keys(self) -> None:
        """Deletes the idempotency keys, as the sweep does after their time."""
        await self._execute("delete from idempotency_keys")

    async def _execute(self, statement: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))

    async def _count(self, table: str) -> int:
        async with self.engine.connect() as connection:
            return int(
                (await connection.execute(text(f"select count(*) from {table}"))).scalar_one()
            )


@dataclass
class World:
    """The operations of one replica over the shared database, with all of its peers."""

    operations: Operations
    orders: FakeOrders
    ledger: LedgerReader

    async def apply_events(self, *orders: order_pb2.Order) -> None:
        """Applies the event of each order."""
        for order in orders:
            event = status_changed(order)
            envelope = events_in.apply_order_version(event, delivery(event), uuid7())
            [outcome] = await self.operations.writer.write([envelope])
            if isinstance(outcome, Exception):
                raise outcome

    async def inspected(self, event: ReturnStatusChanged) -> None:
        """Applies the event of a return."""
        envelope = events_in.refund_return(event, delivery(event))
        assert envelope
        [outcome] = await self.operations.writer.write([envelope])
        if isinstance(outcome, Exception):
            raise outcome

    async def close(self, order: order_pb2.Order, status: str = "CANCELLED", **fields: Any) -> None:
        """Applies the end of the order: cancelled, expired (the same, for payment), or failed."""
        values: dict[str, Any] = {
            "order_id": order.order_id,
            "status": status,
            "attempt": order.attempt,
            "version": order.version + 1,
        }
        await self.apply_events(self.orders.place(order.total_amount, **(values | fields)))

    async def payment(self, order: order_pb2.Order) -> Payment:
        """Returns the one payment of the order, as it stands."""
        [payment] = (await self.account(order.order_id)).payments
        return payment

    async def pay(self, request: api.CreatePaymentRequest, at: Operations | None = None) -> Payment:
        """Calls without the transport, and repeats the call as the client does where the answer was
        lost.
        """
        envelope = requests.create_payment(request, request_context(request))
        token = request.payment_method_token
        return await (at or self.operations).payments.create_payment(envelope, token)

    async def account(self, order_id: str) -> Account:
        """Returns the account as it stands."""
        async with self.operations.reading.database.read() as connection:
            account = await find_account(connection, UUID(order_id))
        assert account
        return account

    async def order(self, total: Money | None = None, **fields: Any) -> order_pb2.Order:
        """Returns a pending order whose event has been applied."""
        order = self.orders.place(total or pounds(42, 50), **fields)
        await self.apply_events(order)
        return order
