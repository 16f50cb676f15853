"""Events that outbox and stream do not both have: what was lost, and what a restored database lacks."""

from datetime import timedelta
from uuid import uuid4

import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import rebuild
from chassis.claims import NOBODY, Claim
from chassis.client import ask, pages
from chassis.database import Database, connect
from chassis.outbox import Outbox
from chassis.stream import MAX_AGE_S, Broker
from chassis.unmatched import UnmatchedEvents
from tests.sample import store
from tests.sample.operators import Sample
from tests.sample.relaying import none_waits, relay, republished, running, shipped
from tests.sample.store import outbox
from tests.sample.writes import count, placed
from tests.support import Eventually, FreshDatabase, measured


def unknown_events() -> float:
    return measured("outbox_unknown_events", stream="ORDERS")


async def test_restored_database_is_told_until_it_is_adopted(
    sample_url: str,
    fresh_database: FreshDatabase,
    broker: Broker,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ten orders, a backup, three more of them shipped: the service comes back with the backup. Its log
    and a gauge tell of the three events that only the stream has, of each process anew, and nothing is
    published twice. Adopted, the outbox has them as they were, and the gauge is 0.
    """
    monkeypatch.setattr(rebuild, "CHECK_S", 0.2)
    engine = connect(sample_url, name="sample")
    database = Database(engine, store.claims, Outbox(outbox, encode=store.event))
    async with running(relay(database, broker)):
        orders = await placed(database, 10)
        await eventually(lambda: none_waits(engine))
    await engine.dispose()
    backup = fresh_database(sample_url)
    async with running(relay(database, broker)):
        await shipped(database, orders[:1])
        await eventually(lambda: none_waits(engine))
    async with engine.connect() as connection:
        statement = select(outbox).order_by(outbox.c.id.desc()).limit(3)
        lost = (await connection.execute(statement)).all()
    await engine.dispose()

    engine = connect(backup, name="sample")
    database = Database(engine, store.claims, Outbox(outbox, encode=store.event))
    before = republished()
    for _ in range(2):
        async with running(relay(database, broker)):
            await eventually(lambda: unknown_events() == 3)
            await placed(database, 1)
            await eventually(lambda: none_waits(engine))
        told = capsys.readouterr().out
        assert told.count("the database was restored to an older state") == 1
    unmatched = UnmatchedEvents(database, broker, "ORDERS", "sample")
    page = await unmatched.page(0)
    found = [(entry.event_id, entry.seq) for entry in page.unknown]
    assert found == [(str(row.event_id), row.stream_seq) for row in reversed(lost)]
    async with running(relay(database, broker)):
        await eventually(lambda: unknown_events() == 3)
        command = Claim("adopt", target=NOBODY)
        assert await unmatched.adopt(command) == (3, False)
        assert await unmatched.adopt(command) == (0, False)
        await eventually(lambda: unknown_events() == 0)
    async with engine.connect() as connection:
        ids = [row.event_id for row in lost]
        statement = select(outbox).where(outbox.c.event_id.in_(ids)).order_by(outbox.c.stream_seq)
        rows = (await connection.execute(statement)).all()
    assert [row[1:] for row in rows] == [row[1:] for row in reversed(lost)]  # all but their ids
    assert republished() == before
    assert (await broker.ensure_stream("ORDERS")).last_seq == 15
    await engine.dispose()


async def test_old_and_foreign_messages_are_no_restoration(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """What has left the outbox by its age, and what another has published, is not missed there."""
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
    page = await UnmatchedEvents(database, broker, "ORDERS", "sample").page(0)
    assert [entry.event_id for entry in page.unknown] == [str(row.event_id)]


async def test_operators_list_and_adopt_events(sample: Sample, eventually: Eventually) -> None:
    """A row whose mark is wrong below what was compared is listed as lost; one that the outbox lacks as
    unknown, until it is adopted. However small the pages, each is listed once, in order.
    """
    await placed(sample.ground.database, 6)
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
