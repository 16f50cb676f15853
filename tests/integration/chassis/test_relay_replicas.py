"""Several relays: each shard has one owner, shares are even, and a crash or a freeze of one loses
no event.
"""

import asyncio
import signal
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.publish import relay as relaying
from chassis.publish.shards import Shards
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from chassis.write.tables import SHARDS
from tests.sample.processes import sample_process
from tests.sample.relaying import none_waits, relay, running, shipped, versions, waiting
from tests.sample.store import event, idempotency_keys, outbox
from tests.sample.writes import count, placed
from tests.support import Eventually

OWNERS = """
    select count(*) from pg_locks where locktype = 'advisory' and objid > 0
      and database = (select oid from pg_database where datname = current_database()) group by pid
"""


async def shares(engine: AsyncEngine) -> list[int]:
    """Returns the number of shards of each owner, the smallest first."""
    async with engine.connect() as connection:
        return sorted((await connection.execute(text(OWNERS))).scalars())


async def are(engine: AsyncEngine, *expected: int) -> bool:
    return await shares(engine) == list(expected)


@pytest.mark.usefixtures("frequent_polls")
async def test_replicas_share_the_shards_evenly(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A new replica gets a share from those with more; a replica that ends leaves its share to the
    others. The order holds, and each event is published once.
    """
    relays = [relay(database, broker) for _ in range(3)]
    plain, sent = broker.publish, Counter[str]()

    async def counted(subject: str, payload: bytes, headers: dict[str, str], **rest: Any) -> Any:
        sent[headers["ce-id"]] += 1
        return await plain(subject, payload, headers, **rest)

    # the only place where the relay calls the network
    broker.publish = counted  # type: ignore[method-assign]

    ids = await placed(database, 20)
    async with running(relays[0]):
        await eventually(lambda: are(engine, 16))
        async with running(relays[1]):
            await eventually(lambda: are(engine, 8, 8))
            async with running(relays[2]):
                await eventually(lambda: are(engine, 5, 5, 6))
                await shipped(database, ids)
                await eventually(lambda: none_waits(engine))
            await eventually(lambda: are(engine, 8, 8))
        await eventually(lambda: are(engine, 16))
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}
    assert set(sent.values()) == {1}


async def test_a_shard_has_one_owner(sample_url: str) -> None:
    """While all replicas balance, no shard has two owners; there may be more replicas than
    shards.
    """
    connections = [await connect(sample_url, pool_size=0).connect() for _ in range(18)]
    shards = [Shards(connection) for connection in connections]
    for number, newcomer in enumerate(shards, start=1):
        await newcomer.join()
        for _ in range(3):
            await asyncio.gather(*(s.balance() for s in shards[:number]))
        owned = [shard for each in shards for shard in each.owned]
        assert len(owned) == len(set(owned))
    assert sorted(shard for each in shards for shard in each.owned) == list(range(SHARDS))
    assert {len(each.owned) for each in shards} == {0, 1}
    assert {each.replicas for each in shards} == {18}
    for connection in connections:
        await connection.close()


@pytest.mark.usefixtures("frequent_polls")
async def test_a_frozen_owner_loses_its_shards(
    database: Database,
    sample_url: str,
    nats_url: str,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """The owner is silent for longer than its session timeout (here 1 s): other replicas take its
    shards. When it continues, it publishes no event twice.
    """
    with sample_process(sample_url, nats_url) as frozen:
        await eventually(lambda: are(engine, 16))
        began = time.monotonic()
        frozen.send_signal(signal.SIGSTOP)
        ids = await placed(database, 10)
        async with running(relay(database, broker)):
            await eventually(lambda: none_waits(engine))
            assert time.monotonic() - began > 0.3  # until then the frozen process owned the shards
            frozen.send_signal(signal.SIGCONT)
            await eventually(lambda: are(engine, 8, 8))
            await shipped(database, ids)
            await eventually(lambda: none_waits(engine))
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


async def test_session_timeout_of_a_relay_is_below_15_seconds(
    database: Database, broker: Broker
) -> None:
    """The test above has a session of 1 s; in a relay with a service's settings the database ends
    it before 15 s without an answer.
    """
    async with relay(database, broker)._session() as (connection, _):
        setting = (
            "select setting::int from pg_settings where name = 'idle_session_timeout' and unit ="
            " 'ms'"
        )
        timeout_ms = (await connection.execute(text(setting))).scalar_one()
    assert 0 < timeout_ms < 15_000  # 0 would be no limit


@pytest.mark.parametrize("point", ["database.committed:3", "outbox.published:2"])
async def test_a_crash_loses_nothing(
    sample_url: str,
    nats_url: str,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    point: str,
) -> None:
    """The process is killed between commit and publication, or between publication and mark: the
    next one continues, and the stream has each event once.
    """
    with sample_process(sample_url, nats_url, "orders", "20", crash_at=point) as crashing:
        assert await asyncio.to_thread(crashing.wait, 20) == -signal.SIGKILL
    unpublished = await waiting(engine)
    assert unpublished > 0
    with sample_process(sample_url, nats_url):
        await eventually(lambda: none_waits(engine))
    orders = await count(engine, outbox)
    assert (await broker.ensure_stream("ORDERS")).state.messages == orders
    assert [v for said in (await versions(broker)).values() for v in said] == [1] * orders


async def test_event_in_another_replicas_shard_is_found_soon(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit wakes the relay of its own process, and another replica can own the shard: with
    other replicas a relay polls often.
    """
    monkeypatch.setattr(relaying, "POLL_S", 0.1)
    monkeypatch.setattr(relaying, "SESSION_TIMEOUT_S", 120.0)
    elsewhere = Database(engine, idempotency_keys, Outbox(outbox, encode=event))
    relays = [relay(each, broker) for each in (database, elsewhere)]
    async with running(*relays):
        await eventually(lambda: are(engine, 8, 8))
        monkeypatch.setattr(relaying, "POLL_S", 60.0)
        await asyncio.sleep(0.3)  # the last poll that was due before is over
        await placed(database, 20)
        await eventually(lambda: none_waits(engine))
