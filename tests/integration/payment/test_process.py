"""The service as a process of its own, killed at its crash points: each order is charged once, and
each payment is stored.
"""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from uuid import uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed, RefundCompleted
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub

from chassis.broker.stream import Broker
from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.errors import Failure
from devstack.child import Child
from devstack.ports import free_ports
from tests.integration.payment.world import (
    FakeOrders,
    LedgerReader,
    Payments,
    create_payment,
    order_service,
    pay,
    pounds,
    publish,
    published,
    status_changed,
    status_of,
)
from tests.support import Eventually, reachable_folder

Start = Callable[..., Child]
# The service looks an operation up by its own worker after this time. SLOW is longer than a
# test, so that only the caller's repeat settles the operation. Otherwise the worker may find first
# that the processor never received the request, and close the try.
QUICK, SLOW = "0.3", "60"
# For tests that count the processor's answers: the worker does not look up a charge for which a
# slow machine still waits.
UNHURRIED = "2"


@pytest.fixture
def port() -> int:
    [port] = free_ports(1)
    return port


@pytest.fixture
async def start(
    payment_url: str, nats_url: str, orders: FakeOrders, port: int
) -> AsyncIterator[Start]:
    """Starts the service as a process that dies at a crash point, or runs on ("")."""
    async with order_service(orders) as order_address:
        with ExitStack() as stack:
            folder = stack.enter_context(reachable_folder("ordermesh-payment-"))
            environment = {
                "DATABASE_URL": payment_url,
                "NATS_URL": nats_url,
                "LISTEN_ADDRESS": f"127.0.0.1:{port}",
                "METRICS_ADDRESS": "127.0.0.1:0",
                "ORDER_ADDRESS": order_address,
                "SETTLE_INTERVAL_S": "0.1",
                "DRAIN_DELAY_S": "0",
            }

            def begin(crash_at: str, settle_after_s: str = QUICK) -> Child:
                command = [sys.executable, "-m", "payment_svc"]
                crash = {"CRASH_AT": crash_at} if crash_at else {}
                child = Child(
                    command,
                    log=folder / "log",
                    environment=environment | crash | {"SETTLE_AFTER_S": settle_after_s},
                )
                stack.callback(child.kill)
                return child

            yield begin


@pytest.fixture
async def payments(port: int) -> AsyncIterator[Payments]:
    """A client of the process that serves at the port."""
    async with client.connect(f"127.0.0.1:{port}") as channel:
        yield PaymentServiceStub(channel)


@pytest.mark.parametrize(
    ("point", "repeated"),
    [
        ("payment.requested", True),  # the operation is written, and the processor not called
        ("processor.answered", False),  # the card is charged, and the result not written
        ("database.committed:2", False),  # the result is written, and the event not published
    ],
)
async def test_killed_process_charges_and_publishes_once(
    point: str,
    repeated: bool,
    start: Start,
    payments: Payments,
    orders: FakeOrders,
    ledger: LedgerReader,
    broker: Broker,
    eventually: Eventually,
) -> None:
    """The process is killed at each point of a payment, and another takes over. The storefront
    repeats its call, or it does not.

    In the end one charge has paid the order, and the stream has one event.
    """
    settle_after_s = SLOW if repeated else QUICK
    doomed = start(point, settle_after_s)
    request = create_payment(orders.place(pounds(42, 50)))
    listing = api.ListPaymentsRequest(order_id=request.order_id)

    async def killed() -> bool:
        if doomed.running:
            with suppress(Failure):  # it was killed during the call, or does not listen yet
                await pay(payments, request)
        return not doomed.running

    await eventually(killed, timeout_s=60)
    assert doomed.exit_code == -signal.SIGKILL, doomed.output()
    successor = start("", settle_after_s)

    async def paid() -> bool:
        try:
            if repeated:
                await pay(payments, request)
            page = await ask(payments.ListPayments, listing, timeout_s=2)
        except Failure:
            return False
        return [status_of(payment) for payment in page.payments] == ["captured"]

    await eventually(paid, timeout_s=60)
    await eventually(lambda: published(broker))
    assert await ledger.charged() == {"charge": 4250}
    assert [type(event) for event in await published(broker)] == [PaymentConfirmed]
    assert successor.stop(grace_s=15) == 0


async def _are_published(broker: Broker, number: int) -> bool:
    return len(await published(broker)) >= number


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("refund.requested", "again"),  # the operation is written, and the processor not called
        ("refund.requested", "once"),
        ("processor.answered:2", "again"),  # the money is refunded, and the result not written
        ("processor.answered:2", "once"),
        ("database.committed:4", "once"),  # the result is written, and the event not published
        ("refund.requested", "by the order's end"),
        ("processor.answered:2", "by the order's end"),
    ],
)
async def test_killed_process_refunds_and_publishes_once(
    point: str,
    asked: str,
    start: Start,
    payments: Payments,
    orders: FakeOrders,
    ledger: LedgerReader,
    broker: Broker,
    eventually: Eventually,
) -> None:
    """The process is killed at each point of a refund, and another takes over. A caller requests it
    once, or until the answer comes, or the end of the order requires it.

    In the end the money is refunded once, and the stream has one event of it.
    """
    doomed = start(point, UNHURRIED if point.startswith("processor.answered") else QUICK)
    order = orders.place(pounds(42, 50))
    request = create_payment(order)
    refund = api.RefundPaymentRequest(request_id=str(uuid4()))
    listing = api.ListRefundsRequest(order_id=order.order_id)

    async def paid() -> bool:
        with suppress(Failure):  # it does not listen yet
            refund.payment_id = (await pay(payments, request)).payment_id
        return bool(refund.payment_id)

    await eventually(paid, timeout_s=60)
    if asked == "by the order's end":
        cancelled = orders.place(
            order.total_amount, order_id=order.order_id, status="CANCELLED", version=2
        )
        await publish(broker, status_changed(cancelled), order.order_id)
    else:
        with suppress(Failure):  # it is killed during the call
            await ask(payments.RefundPayment, refund, timeout_s=5)
    await eventually(lambda: not doomed.running, timeout_s=60)
    assert doomed.exit_code == -signal.SIGKILL, doomed.output()
    successor = start("")

    async def refunded() -> bool:
        try:
            if asked == "again":
                await ask(payments.RefundPayment, refund)
            page = await ask(payments.ListRefunds, listing, timeout_s=2)
        except Failure:
            return False
        return [each.status for each in page.refunds] == [payment_pb2.REFUND_STATUS_COMPLETED]

    await eventually(refunded, timeout_s=60)
    await eventually(lambda: _are_published(broker, 2))
    assert await ledger.charged() == {"charge": 4250}
    assert await ledger.refunded_and_voided() == {"refund": 4250}
    assert [type(event) for event in await published(broker)] == [PaymentConfirmed, RefundCompleted]
    assert successor.stop(grace_s=15) == 0
