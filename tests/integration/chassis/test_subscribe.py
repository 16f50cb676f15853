"""Subscriptions over real connections: watches that break off and resume, and events that are
received as they are published.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceServicer,
    OrderServiceStub,
    add_OrderServiceServicer_to_server,
)

from chassis.broker import subscribe
from chassis.broker.stream import Broker
from chassis.broker.stream import connect as connect_broker
from chassis.rpc import watch_client
from chassis.rpc.client import connect
from chassis.values.errors import Deferred, NotFound
from chassis.values.event_subjects import stream_of
from devstack.nats import Nats
from devstack.ports import free_ports
from tests.sample.events import SamplePaid, SampleStatusChanged
from tests.streams import ensure_streams
from tests.support import Eventually, channel_of

ORDER_ID = "01890000-0000-7000-8000-000000000001"
WATCH = order_service_pb2.WatchOrderRequest(order_id=ORDER_ID)


@pytest.fixture(autouse=True)
def soon_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a subscriber look often whether it has to subscribe again."""
    monkeypatch.setattr(subscribe, "RENEW_S", 0.01)


class Watched(OrderServiceServicer):
    """Answers each watch by its next script: versions to send, then an exception, or None for OK,
    that ends it.
    """

    def __init__(self, *scripts: list[int | Exception | None]) -> None:
        self.scripts = list(scripts)
        self.tokens: list[str] = []
        self.cancelled = asyncio.Event()

    async def WatchOrder(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.tokens.append(request.resume_token)
        for step in self.scripts.pop(0):
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            transition = order_pb2.OrderTransition(order_version=step)
            yield order_service_pb2.WatchOrderResponse(
                transition=transition, resume_token=str(step)
            )
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def watched(*scripts: list[int | Exception | None]) -> Any:
    """Returns a Watched. Its other methods, which the stubs call abstract, are the generated ones
    and answer UNIMPLEMENTED.
    """
    kind: Any = Watched
    return kind(*scripts)


@asynccontextmanager
async def stub(servicer: Watched) -> AsyncIterator[Any]:
    """A stub of the chassis to a server of `servicer`."""
    register: Any = partial(add_OrderServiceServicer_to_server, servicer)
    async with channel_of(register) as channel:
        yield OrderServiceStub(channel)


async def versions(stream: Any, count: int) -> list[int]:
    """Returns the first versions that a stream sends, and closes it."""
    found = []
    async with aclosing(stream):
        async for response in stream:
            found.append(response.transition.order_version)
            if len(found) == count:
                break
    return found


async def test_closed_stream_is_cancelled_at_the_server() -> None:
    """Responses arrive one by one; closing the iterator ends the call at the server too."""
    servicer = watched([1, 2, 3])
    async with stub(servicer) as orders:
        assert await versions(watch_client.responses(orders.WatchOrder, WATCH), 2) == [1, 2]
        async with asyncio.timeout(5):
            await servicer.cancelled.wait()


async def test_a_refused_stream_raises_the_failure() -> None:
    """The server's failure is raised as the server raised it, also in the middle of a stream."""
    async with stub(
        watched([1, NotFound("ORDER_NOT_FOUND", "There is none.", order_id="7")])
    ) as orders:
        with pytest.raises(NotFound, match="There is none") as caught:
            await versions(watch_client.responses(orders.WatchOrder, WATCH), 2)
    assert (caught.value.reason, caught.value.metadata) == ("ORDER_NOT_FOUND", {"order_id": "7"})


async def test_watch_resumes_after_a_disconnection() -> None:
    """After each disconnection the watch calls again with the last resume_token: readers see one
    stream.
    """
    draining = Deferred("DRAINING", "going")
    servicer = watched([1, 2, draining], [draining], [3, Deferred("OVERLOADED")], [4])
    async with stub(servicer) as orders:
        assert await versions(
            watch_client.watch(orders.WatchOrder, WATCH, idle_timeout_s=10), 4
        ) == [
            1,
            2,
            3,
            4,
        ]
    assert servicer.tokens == ["", "2", "2", "3"]
    assert WATCH.resume_token == ""


async def test_watch_ends_where_the_server_ends_it() -> None:
    """An end with OK ends the watch, also after a disconnection: no further call is made."""
    servicer = watched([1, Deferred("DRAINING")], [2, None])
    async with stub(servicer) as orders:
        assert await versions(
            watch_client.watch(orders.WatchOrder, WATCH, idle_timeout_s=10), 9
        ) == [
            1,
            2,
        ]
    assert servicer.tokens == ["", "1"]


async def test_a_watch_that_is_refused_ends() -> None:
    """A refusal is not retried."""
    servicer = watched([1, NotFound("ORDER_NOT_FOUND")])
    async with stub(servicer) as orders:
        with pytest.raises(NotFound):
            await versions(watch_client.watch(orders.WatchOrder, WATCH, idle_timeout_s=10), 2)
    assert servicer.tokens == [""]


async def test_watch_without_an_answer_raises_deferred() -> None:
    """After `idle_timeout_s` without a response the watch raises Deferred."""
    async with connect(f"127.0.0.1:{next(iter(free_ports(1)))}") as channel:
        with pytest.raises(Deferred):
            await versions(
                watch_client.watch(OrderServiceStub(channel).WatchOrder, WATCH, idle_timeout_s=0.3),
                1,
            )


@asynccontextmanager
async def subscribed(broker: Broker) -> AsyncIterator[list[Any]]:
    """Subscribes to the sample's events; yields the received ones."""
    received: list[Any] = []
    listener = asyncio.create_task(
        subscribe.subscribe(
            broker,
            {SampleStatusChanged: received.append, SamplePaid: received.append},
        )
    )
    try:
        yield received
    finally:
        listener.cancel()
        await asyncio.wait([listener])


def message(kind: type[Message]) -> Message:
    """Returns an event with a filled field."""
    filled: Any = kind()
    filled.order_id = ORDER_ID
    return kind.FromString(filled.SerializeToString())


async def publish(
    broker: Broker, subject: str, payload: bytes, kind: type[Message] = SamplePaid
) -> None:
    """Publishes an event as the relay does."""
    await broker.publish(
        subject, payload, {"ce-type": kind.DESCRIPTOR.full_name}, stream=stream_of(subject)
    )


async def test_subscriber_receives_published_events(broker: Broker, eventually: Eventually) -> None:
    """The subscriber receives each event of its types, parsed. It skips an event that cannot be
    parsed, or whose type belongs to another subject, and does not receive other subjects.
    """
    paid, changed = message(SamplePaid), message(SampleStatusChanged)

    async with subscribed(broker) as received:

        async def is_received() -> bool:
            await publish(broker, "payments.sample.paid", paid.SerializeToString())
            return bool(received)

        await eventually(is_received, what="the subscriber has subscribed")
        received.clear()
        await publish(broker, "payments.sample.refunded", paid.SerializeToString())
        await publish(broker, "orders.sample.status_changed", b"\xff\xff", SampleStatusChanged)
        await publish(
            broker,
            "orders.sample.status_changed",
            message(SampleStatusChanged).SerializeToString(),
            SamplePaid,
        )
        await publish(
            broker, "orders.sample.status_changed", changed.SerializeToString(), SampleStatusChanged
        )
        await eventually(lambda: changed in received)
    assert received.count(changed) == 1
    assert {type(each) for each in received} <= {SampleStatusChanged, SamplePaid}


async def test_subscription_continues_after_a_broker_restart(
    own_nats: Nats, own_broker: Broker, eventually: Eventually
) -> None:
    """A subscription continues after a restart of the broker, over any client that then serves."""
    payload = message(SamplePaid).SerializeToString()
    async with subscribed(own_broker) as received:

        async def is_received() -> bool:
            await publish(own_broker, "payments.sample.paid", payload)
            return bool(received)

        await eventually(is_received)
        own_nats.stop()
        own_nats.start()
        await eventually(lambda: own_broker.answers)
        received.clear()

        async def is_received_again() -> bool:
            try:
                return await is_received()
            except Exception as error:
                raise AssertionError(repr(error)) from error

        await eventually(is_received_again, timeout_s=20)


@pytest.mark.usefixtures("short_idle_timeout")
async def test_subscriber_starts_before_the_broker(own_nats: Nats, eventually: Eventually) -> None:
    """A subscriber waits until the broker starts."""
    own_nats.stop()
    broker = await connect_broker(own_nats.url, name="early")
    try:
        async with subscribed(broker) as received:
            own_nats.start()
            await eventually(lambda: broker.answers, timeout_s=20)
            await ensure_streams(broker)

            async def is_received() -> bool:
                await publish(
                    broker, "payments.sample.paid", message(SamplePaid).SerializeToString()
                )
                return bool(received)

            await eventually(is_received)
    finally:
        await broker.close()


class Swallowing:
    """A client like nats-py: a cancelled flush returns as if it had not been cancelled."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def subscribe(self, subject: str, cb: object) -> None:
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def flush(self) -> None:
        """Returns at once."""


async def test_broker_answers_after_a_cancelled_subscription(own_broker: Broker) -> None:
    """A subscriber is cancelled at different moments, and its client continues to read.

    Once, the answer to a cancelled PING ended nats-py's reading: it wrote an error and received no
    more messages.
    """
    for turns in range(12):
        subscribed = asyncio.create_task(
            subscribe.subscribe(own_broker, {SamplePaid: lambda _: None})
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        subscribed.cancel()
        await asyncio.wait([subscribed])
        await own_broker.streams.account_info()  # the broker answers


async def test_subscription_with_a_swallowed_cancellation_ends() -> None:
    """nats-py swallows the cancellation during a call; the subscription ends in its next round."""
    client = Swallowing()
    broker: Any = SimpleNamespace(generation=1, client=client)
    subscribed = asyncio.create_task(
        subscribe.subscribe(broker, {SampleStatusChanged: lambda _: None})
    )
    await client.asked.wait()
    subscribed.cancel()
    await asyncio.wait([subscribed], timeout=10)
    assert subscribed.cancelled()
