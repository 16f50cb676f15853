"""Events that only the outbox or only the stream has: lost ones, and those that a restored database
lacks.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import MAX_AGE_S, Broker
from chassis.publish import stream_comparison, stream_rebuild, unmatched_events
from chassis.publish.unmatched_events import Adopted, UnmatchedEvents
from chassis.rpc.client import ask, pages
from chassis.values.errors import Invalid
from chassis.values.paging import page_request
from chassis.write.database import Database, connect
from chassis.write.idempotency_keys import NO_TARGET, IdempotencyKey
from chassis.write.outbox import Outbox
from tests.sample import store
from tests.sample.operators import Sample
from tests.sample.relaying import none_waits, relay, republished, running, shipped
from tests.sample.store import outbox
from tests.sample.writes import count, placed
from tests.support import Eventually, FreshDatabase, measured


def unknown_events() -> float:
    return measured("outbox_unknown_events", stream="ORDERS")


async def _rows(engine: AsyncEngine, query: Select[*tuple[Any, ...]]) -> Sequence[Any]:
    async with engine.connect() as connection:
        return (await connection.execute(query)).all()


async def test_restored_database_is_reported_until_adoption(
    sample_url: str,
    fresh_database: FreshDatabase,
    broker: Broker,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The service places ten orders, is backed up, ships three more orders, and is restored from
    the backup.

    The log and a gauge of each process report the three events that only the stream has, and no
    event is published twice. After their adoption the outbox has them unchanged, and the gauge is
    0.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 0.2)
    engine = connect(sample_url, name="sample")
    database = Database(engine, store.idempotency_keys, Outbox(outbox, encode=store.event))
    async with running(relay(database, broker)):
        orders = await placed(database, 10)
        await eventually(lambda: none_waits(engine))
    await engine.dispose()
    backup = fresh_database(sample_url)
    async with running(relay(database, broker)):
        await shipped(database, orders[:1])
        await eventually(lambda: none_waits(engine))
    lost = await _rows(engine, select(outbox).order_by(outbox.c.id.desc()).limit(3))
    await engine.dispose()

    engine = connect(backup, name="sample")
    database = Database(engine, store.idempotency_keys, Outbox(outbox, encode=store.event))
    before = republished()
    for _ in range(2):
        async with running(relay(database, broker)):
            await eventually(lambda: unknown_events() == 3)
            await placed(database, 1)
            await eventually(lambda: none_waits(engine))
        output = capsys.readouterr().out
        assert output.count("the database was restored to an older state") == 1
    events = UnmatchedEvents(database=database, broker=broker, stream="ORDERS", source="sample")
    page = await events.page(0)
    found = [(entry.event_id, entry.seq) for entry in page.unknown]
    assert found == [(str(row.event_id), row.stream_seq) for row in reversed(lost)]
    async with running(relay(database, broker)):
        await eventually(lambda: unknown_events() == 3)
        command = IdempotencyKey(key="adopt", target=NO_TARGET)
        assert await events.adopt(command) == Adopted(stored=3, unreadable=0, after=None)
        assert await events.adopt(command) == Adopted(stored=0, unreadable=0, after=None)
        await eventually(lambda: unknown_events() == 0)
    restored = select(outbox).where(outbox.c.event_id.in_([row.event_id for row in lost]))
    rows = await _rows(engine, restored.order_by(outbox.c.stream_seq))
    assert [row[1:] for row in rows] == [row[1:] for row in reversed(lost)]  # all but their ids
    assert republished() == before
    assert (await broker.ensure_stream("ORDERS")).state.last_seq == 15
    await engine.dispose()


async def test_old_and_foreign_messages_are_not_reported(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A message that has left the outbox by its age, or that another service has published, is not
    reported.
    """
    async with running(relay(database, broker)):
        await placed(database, 2)
        await eventually(lambda: none_waits(engine))
    old = timedelta(seconds=MAX_AGE_S)
    async with engine.begin() as connection:
        row = (await connection.execute(select(outbox).limit(1))).one()
        await connection.execute(delete(outbox).where(outbox.c.id == row.id))
    names = {"ce-id": str(uuid4()), "ce-subject": str(uuid4())}
    late = {"ce-source": "/ordermesh/sample", "ce-time": (row.create_time - old).isoformat()}
    young = {"ce-source": "/ordermesh/another", "ce-time": row.create_time.isoformat()}
    for headers in (late, young):
        await broker.publish("orders.sample.noted", b"", names | headers, stream="ORDERS")
    page = await UnmatchedEvents(
        database=database, broker=broker, stream="ORDERS", source="sample"
    ).page(0)
    assert [entry.event_id for entry in page.unknown] == [str(row.event_id)]


async def test_operators_list_and_adopt_events(sample: Sample, eventually: Eventually) -> None:
    """A row whose mark is wrong below the compared position is listed as lost. A message that the
    outbox lacks is listed as unknown, until it is adopted.

    For any page size, each is listed once, in order.
    """
    await placed(sample.context.database, 6)
    await eventually(lambda: none_waits(sample.engine))
    async with sample.engine.begin() as connection:
        rows = (await connection.execute(select(outbox).order_by(outbox.c.stream_seq))).all()
        await connection.execute(delete(outbox).where(outbox.c.id == rows[1].id))
        wrong = update(outbox).values(stream_seq=2).where(outbox.c.id == rows[3].id)
        await connection.execute(wrong)
        other = update(outbox).values(stream_seq=5).where(outbox.c.id == rows[2].id)
        await connection.execute(other)

    async def listed(size: int) -> list[tuple[int, str, int]]:
        method, request = sample.outbox.ListUnmatchedEvents, api.ListUnmatchedEventsRequest()
        found = pages(method, request, "unmatched_events", size=size)
        return [(e.kind, e.event_id, e.stream_seq) async for page in found for e in page]

    expected = [
        (api.UNMATCHED_KIND_LOST, str(rows[3].event_id), 2),
        (api.UNMATCHED_KIND_UNKNOWN, str(rows[1].event_id), 2),
        (api.UNMATCHED_KIND_LOST, str(rows[2].event_id), 5),
    ]
    assert await listed(1000) == expected
    assert await listed(1) == expected
    answer = await ask(sample.outbox.AdoptEvents, api.AdoptEventsRequest(request_id=str(uuid4())))
    assert (answer.adopted_count, answer.more) == (1, False)
    assert await count(sample.engine, outbox) == 6
    assert await listed(1) == [expected[0], expected[2]]


async def delete_rows(engine: AsyncEngine) -> None:
    """Deletes all rows and positions, as in a restored database."""
    async with engine.begin() as connection:
        await connection.execute(delete(outbox))
        await connection.execute(delete(store.stream_positions))


def adopt_command() -> IdempotencyKey:
    return IdempotencyKey(key=f"adopt {uuid4()}", target=NO_TARGET)


async def test_adopt_continues_after_the_last_call(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call reads a part of the stream and returns the position at which the next call begins.

    A repeat of a call stores no event, and does not pass events that are still unknown.
    """
    monkeypatch.setattr(stream_comparison, "PAGE", 2)
    monkeypatch.setattr(unmatched_events, "ADOPT_PAGES", 2)
    async with running(relay(database, broker)):
        await placed(database, 10)
        await eventually(lambda: none_waits(engine))
    await delete_rows(engine)
    events = UnmatchedEvents(database=database, broker=broker, stream="ORDERS", source="sample")
    first = adopt_command()
    assert await events.adopt(first) == Adopted(stored=4, unreadable=0, after=4)
    assert await events.adopt(first, after=4) == Adopted(stored=0, unreadable=0, after=4)
    places: list[int] = []
    read = events.page

    async def page(after: int) -> unmatched_events.Unmatched:
        places.append(after)
        return await read(after)

    monkeypatch.setattr(events, "page", page)
    assert await events.adopt(adopt_command(), after=4) == Adopted(4, unreadable=0, after=8)
    assert places == [4, 6]
    monkeypatch.setattr(unmatched_events, "ADOPTED_MAX", 1)
    assert await events.adopt(adopt_command(), after=8) == Adopted(1, unreadable=0, after=9)
    assert await events.adopt(adopt_command(), after=9) == Adopted(1, unreadable=0, after=10)
    assert await events.adopt(adopt_command(), after=10) == Adopted(0, unreadable=0, after=None)
    assert await count(engine, outbox) == 10


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce-sequence", "seven"),
        ("ce-sequence", "-1"),
        ("ce-sequence", "9" * 19),
        ("ce-correlationid", "no UUID"),
        ("ce-causationid", "%00"),
    ],
)
async def test_adopt_with_broken_header_skips_the_event(
    sample: Sample,
    eventually: Eventually,
    header: str,
    value: str,
) -> None:
    """An event of this service whose header has an invalid value is counted, and the others are
    stored.
    """
    await placed(sample.context.database, 2)
    await eventually(lambda: none_waits(sample.engine))
    message = await sample.context.broker.streams.get_msg("ORDERS", 1)
    names = {"ce-id": str(uuid4()), "Nats-Msg-Id": str(uuid4())}
    headers = (message.headers or {}) | names | {header: value}
    await sample.context.broker.publish(message.subject or "", b"", headers, stream="ORDERS")
    await delete_rows(sample.engine)
    request = api.AdoptEventsRequest(request_id=str(uuid4()))
    answer = await ask(sample.outbox.AdoptEvents, request)
    assert (answer.adopted_count, answer.unreadable_count, answer.more) == (2, 1, False)
    assert await count(sample.engine, outbox) == 2


@pytest.mark.usefixtures("frequent_polls")
async def test_gauge_with_more_unknown_than_kept_stays_up(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five events are unknown, and two are kept in memory. When those two are stored, the gauge
    does not fall to 0, and no position is stored behind the others.

    When all are stored, both happen.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 0.05)
    monkeypatch.setattr(stream_rebuild, "UNKNOWN_MAX", 2)
    async with running(relay(database, broker)):
        await placed(database, 5)
        await eventually(lambda: none_waits(engine))
    await delete_rows(engine)
    events = UnmatchedEvents(database=database, broker=broker, stream="ORDERS", source="sample")
    async with running(relay(database, broker)):
        await eventually(lambda: unknown_events() == 2)
        with monkeypatch.context() as patch:
            patch.setattr(unmatched_events, "ADOPTED_MAX", 2)
            assert (await events.adopt(adopt_command())).stored == 2
        for _ in range(50):
            assert unknown_events() > 0
            assert await position(engine) == 0
            await asyncio.sleep(0.02)
        assert (await events.adopt(adopt_command())).stored == 3
        await eventually(lambda: unknown_events() == 0)
        await eventually(lambda: is_compared(engine))


async def position(engine: AsyncEngine) -> int:
    """Returns the highest position up to which a shard is compared."""
    async with engine.connect() as connection:
        highest = await connection.execute(select(func.max(store.stream_positions.c.seq)))
    return int(highest.scalar_one())


async def is_compared(engine: AsyncEngine) -> bool:
    return await position(engine) == 5


@pytest.mark.parametrize("place", [-1, 2**63 - 1])
async def test_unmatched_list_with_forged_place_is_refused(sample: Sample, place: int) -> None:
    """A token with a position that no query can use is PAGE_TOKEN_INVALID."""
    request = api.ListUnmatchedEventsRequest()
    request.page_token = page_request(request, lambda row: row, int).token((place,))
    with pytest.raises(Invalid) as refused:
        await ask(sample.outbox.ListUnmatchedEvents, request)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_unmatched_list_with_highest_place_is_empty(sample: Sample) -> None:
    """The highest position that a token can have is answered with the last page."""
    request = api.ListUnmatchedEventsRequest()
    request.page_token = page_request(request, lambda row: row, int).token((2**63 - 2,))
    answer = await ask(sample.outbox.ListUnmatchedEvents, request)
    assert not answer.unmatched_events
    assert not answer.next_page_token
