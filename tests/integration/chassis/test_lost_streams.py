"""The database is the log of record: whatever becomes of the broker's store, a publisher and a
listener end where they should.

Each loss happens while orders are being placed and heard of. Afterwards, within half a minute and
by themselves: the stream has every event of the outbox where it is marked, the listener's consumer
has nothing before it, and each event has had its effect, once.
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


class House:
    """A publisher that places an order now and then, and a listener; on a broker of their own."""

    def __init__(self, nats: Nats, broker: Broker, database: Database, listener: Database) -> None:
        self.nats, self.broker, self.database, self.listener = nats, broker, database, listener
        self.effects = Effects(listener)
        self.number = 0

    @asynccontextmanager
    async def lives(self) -> AsyncIterator[None]:
        """Orders are placed, published and heard of meanwhile."""
        async with (
            running(relay(self.database, self.broker)),
            consuming(self.broker, self.listener.engine, {SampleStatusChanged: self.effects}),
        ):
            yield

    async def order(self, number: int) -> None:
        """So many orders more."""
        await placed(self.database, number)
        self.number += number

    async def is_whole(self) -> bool:
        """Whether everything is where it should be."""
        assert await count(self.database.engine, outbox, outbox.c.stream_seq.is_(None)) == 0, (
            "events wait"
        )
        assert await self.effects.number() == self.number, "effects are missing"
        assert await all_acknowledged(self.broker), "the consumer has not done all"
        async with self.database.engine.connect() as connection:
            marks = (await connection.execute(select(outbox.c.event_id, outbox.c.stream_seq))).all()
        for mark in marks:
            message = await self.broker.streams.get_msg("ORDERS", mark.stream_seq)
            assert (message.headers or {})["ce-id"] == str(mark.event_id), (
                "another event stands there"
            )
        return len(marks) == self.number

    async def recovers(self) -> None:
        """Waits until it is."""

        async def whole() -> bool:
            try:
                return await self.is_whole()
            except BROKER_ERRORS as error:
                raise AssertionError(repr(error)) from error

        await eventually(whole, timeout_s=RECOVERY_S)


@pytest.fixture
async def house(
    short_window: None, own_nats: Nats, own_broker: Broker, database: Database, listener: Database
) -> AsyncIterator[House]:
    """A publisher and a listener, with ten orders behind them."""
    house = House(nats=own_nats, broker=own_broker, database=database, listener=listener)
    async with house.lives():
        await house.order(10)
        await house.recovers()
        yield house
    assert await failed(listener.engine) == []


async def delete_stream(house: House, _: Path) -> None:
    await house.broker.streams.delete_stream("ORDERS")


async def delete_consumer(house: House, _: Path) -> None:
    await house.broker.streams.delete_consumer("ORDERS", CONSUMER)


async def purge(house: House, _: Path) -> None:
    await house.broker.streams.purge_stream("ORDERS")


async def delete_everything(house: House, _: Path) -> None:
    for info in await house.broker.streams.streams_info():
        await house.broker.streams.delete_stream(info.config.name or "")


async def wipe(house: House, _: Path) -> None:
    house.nats.kill()
    shutil.rmtree(house.nats.store)
    house.nats.start()


async def roll_back(house: House, folder: Path) -> None:
    """The server comes back with the disk that it had five orders ago."""
    await _copy(house, folder)
    await house.order(5)
    await _heard(house)
    house.nats.kill()
    shutil.rmtree(house.nats.store)
    shutil.copytree(folder / "copy", house.nats.store)
    house.nats.start()


async def roll_back_messages_alone(house: House, folder: Path) -> None:
    """The messages are of five orders ago, and what the consumers had acknowledged is of now:
    they are ahead of the stream.
    """
    await _copy(house, folder)
    await house.order(5)
    await _heard(house)
    house.nats.kill()
    for messages in list((folder / "copy").rglob("msgs")):
        now = house.nats.store / messages.relative_to(folder / "copy")
        shutil.rmtree(now)
        shutil.copytree(messages, now)
    house.nats.start()


async def roll_back_to_before_the_consumer(house: House, folder: Path) -> None:
    """The disk is of a time when nobody listened yet: the consumer is not there."""
    await _copy(house, folder)
    house.nats.kill()
    shutil.rmtree(house.nats.store)
    shutil.copytree(folder / "copy", house.nats.store)
    for consumers in list(house.nats.store.rglob("obs")):
        shutil.rmtree(consumers)
    house.nats.start()


async def _copy(house: House, folder: Path) -> None:
    house.nats.stop()
    shutil.copytree(house.nats.store, folder / "copy")
    house.nats.start()


async def _heard(house: House) -> None:
    """Until all that was placed has been published and heard of."""

    async def heard() -> bool:
        return await house.effects.number() == house.number and await all_acknowledged(house.broker)

    await eventually(heard, timeout_s=RECOVERY_S)


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
async def test_what_the_broker_loses_comes_again(
    house: House, lose: Callable[[House, Path], Awaitable[None]], tmp_path: Path
) -> None:
    """Under load, and by themselves: see above. And what comes after is heard as before."""
    task = asyncio.create_task(_place_on(house, 20))
    await lose(house, tmp_path)
    await task
    await house.recovers()
    await house.order(5)
    await house.recovers()


async def _place_on(house: House, number: int) -> None:
    for _ in range(number):
        await house.order(1)
        await asyncio.sleep(0.02)


async def test_it_is_lost_again_while_it_is_mended(house: House) -> None:
    """The stream goes while its events are being published again, twice."""
    await house.order(300)
    for _ in range(3):
        await eventually(partial(_is_there, house.broker), timeout_s=RECOVERY_S)
        await house.broker.streams.delete_stream("ORDERS")
        await house.order(20)
    await house.recovers()


async def _is_there(broker: Broker) -> bool:
    """Whether the stream is there again, and more than half of what was in it."""
    try:
        return (await broker.streams.stream_info("ORDERS")).state.messages > 150
    except BROKER_ERRORS:
        return False


async def test_nobody_was_there_when_it_was_lost(
    own_nats: Nats, own_broker: Broker, database: Database, listener: Database
) -> None:
    """The services were down: at their start they find out. A listener that starts first makes
    an empty stream, and waits.
    """
    house = House(nats=own_nats, broker=own_broker, database=database, listener=listener)
    async with house.lives():
        await house.order(10)
        await house.recovers()
    await wipe(house, Path())
    await eventually(lambda: own_broker.client.is_connected)
    async with consuming(own_broker, listener.engine, {SampleStatusChanged: house.effects}):
        await eventually(lambda: all_acknowledged(own_broker))
        assert (await own_broker.ensure_stream("ORDERS")).last_seq == 0
        async with running(relay(database, own_broker)):
            await eventually(lambda: _messages(own_broker, 10))
            await eventually(lambda: house.effects.handled >= 20)
    assert await house.effects.number() == 10


async def _messages(broker: Broker, number: int) -> bool:
    return (await broker.ensure_stream("ORDERS", correct=False)).messages == number
