"""The database is the log of record: after any loss of the broker's store, publisher and consumer
reach the complete state.

Each loss happens while orders are placed and consumed. Within half a minute and without an
operator, the stream has every event of the outbox where it is marked. The consumer has acknowledged
all, and each event has had its effect, once.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.write.database import Database
from devstack.nats import Nats
from tests.sample.events import SampleStatusChanged
from tests.sample.inbox import CONSUMER, Effects, all_acknowledged, consuming, failed
from tests.sample.relaying import relay, running
from tests.sample.store import outbox
from tests.sample.writes import count, placed
from tests.support import eventually

RECOVERY_S = 30.0


class Deployment:
    """A publisher that places orders and a consumer, on a broker of their own."""

    def __init__(self, nats: Nats, broker: Broker, database: Database, listener: Database) -> None:
        self.nats, self.broker, self.database, self.listener = nats, broker, database, listener
        self.effects = Effects(listener)
        self.number = 0

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """Runs the relay and the consumer inside the block."""
        async with (
            running(relay(self.database, self.broker)),
            consuming(self.broker, self.listener.engine, {SampleStatusChanged: self.effects}),
        ):
            yield

    async def order(self, number: int) -> None:
        """Places this number of orders."""
        await placed(self.database, number)
        self.number += number

    async def is_whole(self) -> bool:
        """Returns whether outbox, stream, consumer and effects agree."""
        assert await count(self.database.engine, outbox, outbox.c.stream_seq.is_(None)) == 0, (
            "events wait"
        )
        assert await self.effects.number() == self.number, "effects are missing"
        assert await all_acknowledged(self.broker), "the consumer has unsettled events"
        async with self.database.engine.connect() as connection:
            marks = (await connection.execute(select(outbox.c.event_id, outbox.c.stream_seq))).all()
        for mark in marks:
            message = await self.broker.streams.get_msg("ORDERS", mark.stream_seq)
            assert (message.headers or {})["ce-id"] == str(mark.event_id), (
                "another event has the position"
            )
        return len(marks) == self.number

    async def recovers(self) -> None:
        """Waits until `is_whole` holds."""

        async def whole() -> bool:
            try:
                return await self.is_whole()
            except BROKER_ERRORS as error:
                raise AssertionError(repr(error)) from error

        await eventually(whole, timeout_s=RECOVERY_S)


@pytest.fixture
async def deployment(
    short_window: None, own_nats: Nats, own_broker: Broker, database: Database, listener: Database
) -> AsyncIterator[Deployment]:
    """A publisher and a consumer, with ten orders published and consumed."""
    deployment = Deployment(nats=own_nats, broker=own_broker, database=database, listener=listener)
    async with deployment.runs():
        await deployment.order(10)
        await deployment.recovers()
        yield deployment
    assert await failed(listener.engine) == []


async def delete_stream(deployment: Deployment, _: Path) -> None:
    await deployment.broker.streams.delete_stream("ORDERS")


async def delete_consumer(deployment: Deployment, _: Path) -> None:
    await deployment.broker.streams.delete_consumer("ORDERS", CONSUMER)


async def purge(deployment: Deployment, _: Path) -> None:
    await deployment.broker.streams.purge_stream("ORDERS")


async def delete_everything(deployment: Deployment, _: Path) -> None:
    for info in await deployment.broker.streams.streams_info():
        await deployment.broker.streams.delete_stream(info.config.name or "")


async def wipe(deployment: Deployment, _: Path) -> None:
    deployment.nats.kill()
    shutil.rmtree(deployment.nats.store)
    deployment.nats.start()


async def roll_back(deployment: Deployment, folder: Path) -> None:
    """Restarts the server with the files that it had five orders ago."""
    await _copy(deployment, folder)
    await deployment.order(5)
    await _consumed(deployment)
    deployment.nats.kill()
    shutil.rmtree(deployment.nats.store)
    shutil.copytree(folder / "copy", deployment.nats.store)
    deployment.nats.start()


async def roll_back_messages_alone(deployment: Deployment, folder: Path) -> None:
    """Restores the messages of five orders ago and keeps the consumers' current acknowledgements:
    these are ahead of the stream.
    """
    await _copy(deployment, folder)
    await deployment.order(5)
    await _consumed(deployment)
    deployment.nats.kill()
    for messages in list((folder / "copy").rglob("msgs")):
        now = deployment.nats.store / messages.relative_to(folder / "copy")
        shutil.rmtree(now)
        shutil.copytree(messages, now)
    deployment.nats.start()


async def roll_back_to_before_the_consumer(deployment: Deployment, folder: Path) -> None:
    """Restores files of a time before the consumer existed."""
    await _copy(deployment, folder)
    deployment.nats.kill()
    shutil.rmtree(deployment.nats.store)
    shutil.copytree(folder / "copy", deployment.nats.store)
    for consumers in list(deployment.nats.store.rglob("obs")):
        shutil.rmtree(consumers)
    deployment.nats.start()


async def _copy(deployment: Deployment, folder: Path) -> None:
    deployment.nats.stop()
    shutil.copytree(deployment.nats.store, folder / "copy")
    deployment.nats.start()


async def _consumed(deployment: Deployment) -> None:
    """Waits until all orders are published and consumed."""

    async def consumed() -> bool:
        return await deployment.effects.number() == deployment.number and await all_acknowledged(
            deployment.broker
        )

    await eventually(consumed, timeout_s=RECOVERY_S)


@pytest.mark.parametrize(
    "lose",
    [
        delete_stream,
        delete_consumer,
        purge,
        delete_everything,
        wipe,
        roll_back,
        roll_back_messages_alone,
        roll_back_to_before_the_consumer,
    ],
)
async def test_lost_events_are_published_again(
    deployment: Deployment, lose: Callable[[Deployment, Path], Awaitable[None]], tmp_path: Path
) -> None:
    """Under load and without an operator, publisher and consumer recover as this module's docstring
    says. Later events are consumed as before.
    """
    task = asyncio.create_task(_place_on(deployment, 20))
    await lose(deployment, tmp_path)
    await task
    await deployment.recovers()
    await deployment.order(5)
    await deployment.recovers()


async def _place_on(deployment: Deployment, number: int) -> None:
    for _ in range(number):
        await deployment.order(1)
        await asyncio.sleep(0.02)


async def test_stream_lost_during_its_rebuild_is_rebuilt(deployment: Deployment) -> None:
    """The stream is deleted twice more while its events are published again."""
    await deployment.order(300)
    for _ in range(3):
        await eventually(partial(_is_there, deployment.broker), timeout_s=RECOVERY_S)
        await deployment.broker.streams.delete_stream("ORDERS")
        await deployment.order(20)
    await deployment.recovers()


async def _is_there(broker: Broker) -> bool:
    """Returns whether the stream exists again with more than half of its messages."""
    try:
        return (await broker.streams.stream_info("ORDERS")).state.messages > 150
    except BROKER_ERRORS:
        return False


async def test_stream_lost_while_services_are_down_is_rebuilt(
    own_nats: Nats, own_broker: Broker, database: Database, listener: Database
) -> None:
    """The services are down during the loss and find it at their start. A consumer that starts
    first makes an empty stream, and waits.
    """
    deployment = Deployment(nats=own_nats, broker=own_broker, database=database, listener=listener)
    async with deployment.runs():
        await deployment.order(10)
        await deployment.recovers()
    await wipe(deployment, Path())
    await eventually(lambda: own_broker.client.is_connected)
    async with consuming(own_broker, listener.engine, {SampleStatusChanged: deployment.effects}):
        await eventually(lambda: all_acknowledged(own_broker))
        assert (await own_broker.ensure_stream("ORDERS")).state.last_seq == 0
        async with running(relay(database, own_broker)):
            await eventually(lambda: _messages(own_broker, 10))
            await eventually(lambda: deployment.effects.handled >= 20)
    assert await deployment.effects.number() == 10


async def _messages(broker: Broker, number: int) -> bool:
    return (await broker.ensure_stream("ORDERS", correct=False)).state.messages == number
