"""The relay publishes every committed event, in each aggregate's order, after any failure. Losses:
test_rebuild.py.
"""

import asyncio
import random
import time
from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from chassis.broker.stream import Broker
from chassis.broker.stream import connect as connect_broker
from chassis.observe import telemetry
from chassis.publish import relay as relaying
from chassis.publish.republish import Republish
from chassis.values.event_subjects import MESSAGE_BYTES_MAX
from chassis.write.database import Database
from chassis.write.outbox import headers
from chassis.write.tables import SHARDS
from devstack.nats import Nats
from tests.sample.model import ConfirmPayment
from tests.sample.relaying import (
    none_waits,
    published,
    relay,
    republished,
    running,
    shipped,
    versions,
    waiting,
)
from tests.sample.store import outbox
from tests.sample.writes import count, envelope, placed, write
from tests.streams import ensure_streams
from tests.support import Eventually

END_SESSION = text(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sample relay'"
    " and datname = current_database()"
)


async def test_an_event_is_published_with_its_attributes(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The headers have the event's type, id, aggregate, time and trace; the row has its position in
    the stream.
    """
    with trace.use_span(TracerProvider().get_tracer("test").start_span("checkout")):
        traceparent = telemetry.traceparent()
        [order] = await placed(database)
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    async with engine.connect() as connection:
        row = (await connection.execute(select(outbox))).one()
    [message] = await published(broker)
    assert (message.subject, message.data, row.stream_seq) == (
        "orders.sample.status_changed",
        row.payload,
        1,
    )
    assert message.headers
    assert {k: v for k, v in message.headers.items() if k != "Nats-Expected-Stream"} == {
        "Nats-Msg-Id": str(row.event_id),
        "ce-specversion": "1.0",
        "ce-id": str(row.event_id),
        "ce-type": "ordermesh.sample.events.v1.SampleStatusChanged",
        "ce-source": "/ordermesh/sample",
        "ce-subject": str(order),
        "ce-dataschema": "urn:ordermesh:proto:ordermesh.sample.events.v1.SampleStatusChanged",
        "ce-partitionkey": str(order),
        "ce-sequence": "0000000000000000001",
        "ce-correlationid": str(order),
        "ce-causationid": row.causation_id,
        "ce-time": row.create_time.isoformat(),
        "content-type": "application/protobuf",
        "traceparent": traceparent,
    }
    assert datetime.fromisoformat(message.headers["ce-time"]) == row.create_time


async def test_a_commit_wakes_the_relay(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The relay publishes before its next poll, which is a minute away."""
    monkeypatch.setattr(relaying, "POLL_S", 60.0)
    monkeypatch.setattr(relaying, "SESSION_TIMEOUT_S", 120.0)
    async with running(relay(database, broker)):
        for _ in range(3):
            await placed(database)
            await eventually(lambda: none_waits(engine))


@pytest.mark.usefixtures("frequent_polls")
async def test_event_of_another_process_is_found_by_polling(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Another process appended the event: the slow poll finds it."""
    async with running(relay(database, broker)):
        await placed(database)
        await eventually(lambda: none_waits(engine))
        async with engine.begin() as connection:
            await connection.execute(update(outbox).values(stream_seq=None))
        await eventually(lambda: none_waits(engine))


async def test_each_aggregate_is_published_in_order(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For any division into batches, the stream has an order's events in the order of its versions,
    each once.
    """
    monkeypatch.setattr(relaying, "BATCH_MAX", 7)
    async with running(relay(database, broker)):
        ids = await placed(database, 30)
        await asyncio.gather(*(shipped(database, ids[n::5]) for n in range(5)))
        await eventually(lambda: none_waits(engine))
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}
    async with engine.connect() as connection:
        seqs = (await connection.execute(select(outbox.c.stream_seq))).scalars().all()
    assert sorted(seqs) == list(range(1, 121))


async def test_aggregates_are_published_concurrently(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A slow answer delays only its own aggregate."""
    ids = await placed(database, 3)
    plain, stuck, flying = broker.publish, asyncio.Event(), Counter[str]()

    async def slow(subject: str, payload: bytes, headers: dict[str, str], **rest: Any) -> Any:
        flying[headers["ce-subject"]] += 1
        if headers["ce-subject"] == str(ids[1]):
            await stuck.wait()
        return await plain(subject, payload, headers, **rest)

    await shipped(database, ids)
    # the only place where the relay calls the network
    broker.publish = slow  # type: ignore[method-assign]
    async with running(relay(database, broker)):
        await eventually(lambda: flying == {str(ids[0]): 4, str(ids[1]): 1, str(ids[2]): 4})
        stuck.set()
        await eventually(lambda: none_waits(engine))


@pytest.mark.usefixtures("frequent_polls")
async def test_a_refused_event_stops_its_own_aggregate(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that the stream always refuses waits, and so do the later ones of its aggregate.
    Other aggregates go on, for any number of refused events.

    A metric, and the outbox's state for operators, name each blocked aggregate and its reason,
    until it is published.
    """
    monkeypatch.setattr(relaying, "BATCH_MAX", 2)
    monkeypatch.setattr(relaying, "MEASURE_S", 0.05)
    poisoned, fine = [uuid4() for _ in range(5)], await placed(database, 4)
    common = {"subject": "orders.sample.status_changed", "type": "x"}
    rows = [
        {
            **common,
            "shard": p.int % SHARDS,
            "aggregate": p,
            "event_id": uuid4(),
            "payload": b"x" * size,
            "sequence": sequence,
        }
        for p in poisoned
        for sequence, size in enumerate((MESSAGE_BYTES_MAX, 1), 1)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(outbox), rows)
    republish = Republish(database)
    async with running(relay(database, broker)):
        await shipped(database, fine)
        await eventually(lambda: _all_published(engine, fine))
        assert await waiting(engine) == 10
        await eventually(lambda: _blocked() == {str(p) for p in poisoned})
        refused = (await republish.stats()).refused
        assert [(event.aggregate, event.size, event.type) for event in refused] == [
            (p, MESSAGE_BYTES_MAX, "x") for p in poisoned
        ]
        assert {event.refusal for event in refused} == {
            "MaxPayloadError: nats: maximum payload exceeded"
        }
        async with engine.begin() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.aggregate == poisoned[0]).values(payload=b"mended")
            )
        await eventually(lambda: _all_published(engine, poisoned[:1]))
        assert await waiting(engine) == 8
        await eventually(lambda: _blocked() == {str(p) for p in poisoned[1:]})
        assert [event.aggregate for event in (await republish.stats()).refused] == poisoned[1:]


def _blocked() -> set[str]:
    """Returns the aggregates that the gauge of blocked ones names."""
    samples = [
        sample
        for metric in REGISTRY.collect()
        if metric.name == "outbox_blocked_seconds"
        for sample in metric.samples
    ]
    return {sample.labels["aggregate"] for sample in samples}


async def _all_published(engine: AsyncEngine, aggregates: list[UUID]) -> bool:
    return (
        await count(
            engine, outbox, outbox.c.aggregate.in_(aggregates), outbox.c.stream_seq.is_(None)
        )
        == 0
    )


async def test_a_failed_publication_ends_its_chain(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """No event of an aggregate is published before the earlier ones: for any number of the broker's
    failures, the order holds.
    """
    plain, dice = broker.publish, random.Random(7)

    async def flaky(*arguments: Any, **rest: Any) -> Any:
        if dice.random() < 0.2:
            raise TimeoutError
        ack = await plain(*arguments, **rest)
        if dice.random() < 0.2:
            raise TimeoutError  # the stream has it, and its answer is lost
        return ack

    # the only place where the relay calls the network
    broker.publish = flaky  # type: ignore[method-assign]
    ids = await placed(database, 5)
    await shipped(database, ids)
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine), timeout_s=30)
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


async def test_events_wait_while_the_broker_is_down(
    database: Database,
    own_nats: Nats,
    own_broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """Orders are placed all the same. When the broker is back, the backlog is published soon and in
    order.
    """
    async with running(relay(database, own_broker)):
        ids = await placed(database, 5)
        await eventually(lambda: none_waits(engine))
        own_nats.kill()
        await shipped(database, ids)
        assert await waiting(engine) == 15
        own_nats.start()
        await eventually(lambda: none_waits(engine), timeout_s=15)
    assert await versions(own_broker) == {str(order): [1, 2, 3, 4] for order in ids}


async def test_relay_replaces_a_lost_session(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The database ends the relay's connection: the relay opens another, with its shards."""
    async with running(relay(database, broker)):
        await placed(database)
        await eventually(lambda: none_waits(engine))
        async with engine.connect() as connection:
            await connection.execute(END_SESSION)
        await placed(database)
        await eventually(lambda: none_waits(engine))


@pytest.mark.usefixtures("short_idle_timeout")
async def test_relay_starts_before_its_broker(
    database: Database, engine: AsyncEngine, own_nats: Nats, eventually: Eventually
) -> None:
    """A relay that starts before its broker publishes as soon as the broker is there."""
    own_nats.stop()
    broker = await connect_broker(own_nats.url, name="sample")
    await placed(database)
    async with running(relay(database, broker)):
        assert await waiting(engine) == 1
        own_nats.start()
        await eventually(lambda: none_waits(engine))
    await broker.close()


async def test_an_idle_relay_rests(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An appended event wakes the relay once, and not again."""
    monkeypatch.setattr(relaying, "POLL_S", 0.1)
    idle, rounds = relay(database, broker), 0
    plain = idle._round

    async def counted(*arguments: Any) -> int:
        nonlocal rounds
        rounds += 1
        return await plain(*arguments)

    monkeypatch.setattr(idle, "_round", counted)
    async with running(idle):
        await placed(database)
        await eventually(lambda: none_waits(engine))
        before, began = rounds, time.monotonic()
        await asyncio.sleep(0.5)  # five polls
        assert rounds - before <= (time.monotonic() - began) / 0.1 + 2
        await eventually(lambda: rounds > before)


@pytest.mark.usefixtures("frequent_polls")
async def test_repeat_at_an_earlier_position_is_no_loss(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An event was published and not marked: the broker answers its old position, which is before
    others. No other event is published again.
    """

    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
        before = republished()
        async with engine.begin() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.stream_seq == 1).values(stream_seq=None)
            )
        await eventually(lambda: none_waits(engine))
    assert republished() == before
    assert len(await published(broker)) == 3


@pytest.mark.usefixtures("short_window", "frequent_polls")
async def test_repeat_before_an_earlier_event_is_published_again(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream has only an order's second event, and takes it for a repeat. It is published again
    behind the first, though each round of the relay takes one event. The relay tries it several
    times until then, and logs the wait once.
    """
    monkeypatch.setattr(relaying, "BATCH_MAX", 1)
    [order] = await placed(database)
    await write(database, envelope(ConfirmPayment(), order))
    async with engine.connect() as connection:
        second = (await connection.execute(select(outbox).where(outbox.c.sequence == 2))).one()
    await ensure_streams(broker)
    await broker.publish(second.subject, second.payload, headers(second, "sample"), stream="ORDERS")
    with capture_logs() as log:
        async with running(relay(database, broker)):
            await eventually(lambda: none_waits(engine))
    waits = [entry["event_id"] for entry in log if "window for repeats" in entry["event"]]
    assert waits == [str(second.event_id)]
    async with engine.connect() as connection:
        marks = select(outbox.c.stream_seq).order_by(outbox.c.sequence)
        places = (await connection.execute(marks)).scalars().all()
    assert places == sorted(places)
