"""Reads of a stream: an answer that is cut short does not prove that events are lost."""

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.publish import relay as relaying
from chassis.publish.stream_contents import Bounds, StreamContents
from chassis.publish.unmatched_events import UnmatchedEvents
from chassis.write.database import Database
from tests.sample.relaying import none_waits, relay, republished, running
from tests.sample.writes import placed
from tests.support import Eventually


def end_readings(broker: Broker, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Makes the broker's client answer each pull request with the status, before any message."""
    client = broker.client
    publish = client.publish

    async def answered(subject: str, payload: bytes = b"", reply: str = "", **options: Any) -> None:
        if subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            subject, payload, reply = reply, b"", ""
            options["headers"] = {"Status": status, "Description": "ended by the test"}
        await publish(subject, payload, reply, **options)

    monkeypatch.setattr(client, "publish", answered)


@pytest.mark.parametrize("status", ["409", "503"])
async def test_between_with_broken_reading_raises(
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """A status that does not mean "no more messages" is an error of the broker."""
    end_readings(broker, monkeypatch, status)
    with pytest.raises(BROKER_ERRORS, match=status):
        await StreamContents(broker, "ORDERS").between(1, 10)


@pytest.mark.parametrize("status", ["404", "408"])
async def test_between_with_no_more_messages_ends(
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """The statuses 404 and 408 end the reading with the messages that were read."""
    end_readings(broker, monkeypatch, status)
    assert await StreamContents(broker, "ORDERS").between(1, 10) == {}


@pytest.mark.parametrize("status", ["404", "409"])
async def test_relay_after_short_reading_republishes_nothing(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """A relay whose readings end at once finds no event lost: it asks for each message first."""
    async with running(relay(database, broker)):
        await placed(database, 20)
        await eventually(lambda: none_waits(engine))
    before = republished()
    with monkeypatch.context() as patch:
        end_readings(broker, patch, status)
        patch.setattr(relaying, "DRAIN_S", 1.0)
        await relay(database, broker).drain()
    async with running(relay(database, broker)):
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() == before
    assert (await broker.ensure_stream("ORDERS")).state.messages == 21


async def test_unmatched_page_with_older_bounds_lists_nothing(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events that are published after the stream's bounds were read are not listed as lost."""
    unmatched = UnmatchedEvents(database=database, broker=broker, stream="ORDERS", source="sample")
    before = await unmatched._comparison.contents.bounds()
    async with running(relay(database, broker)):
        await placed(database, 5)
        await eventually(lambda: none_waits(engine))
    answers, read_bounds = [before], StreamContents.bounds

    async def bounds(contents: StreamContents) -> Bounds | None:
        return answers.pop() if answers else await read_bounds(contents)

    monkeypatch.setattr(StreamContents, "bounds", bounds)
    assert (await unmatched.page(0)).lost == []
    assert not answers
