"""Two bodies under one event id: each has its own row and its own outcome, and the id has one
effect.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.ops.v1 import ops_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.consume.delivery import Delivery
from chassis.consume.failed_event_records import digest_of
from chassis.consume.inbox import PARK_AT
from chassis.rpc.client import ask
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, NotFound, Refused
from chassis.write.database import Database
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.events import SampleNoted, SamplePaid, SampleStatusChanged
from tests.sample.inbox import RecordingHandler, all_acknowledged, consuming, failed, publish
from tests.sample.operators import CONSUMER, DISCARDED, REPLAYED, Paying, Sample, event
from tests.sample.writes import placed
from tests.support import Eventually

PAYMENTS = (CONSUMER, "PAYMENTS")
FORGED = 666


async def _publish_both(broker: Broker, event_id: UUID, *events: Message) -> None:
    """Publishes the events under one id; the broker stores each as a message of its own."""
    for body in events:
        await publish(broker, body, event_id, Nats_Msg_Id=str(uuid4()))


async def _confirmed(engine: AsyncEngine) -> set[UUID]:
    async with engine.connect() as connection:
        query = select(store.orders.c.id).where(store.orders.c.status == "confirmed")
        return set((await connection.execute(query)).scalars())


@pytest.mark.parametrize("together", [True, False])
async def test_second_body_after_an_effect_is_not_applied(
    broker: Broker, database: Database, engine: AsyncEngine, eventually: Eventually, together: bool
) -> None:
    """In the same set or later, the second body is a failed row EVENT_ID_REUSED, and changes
    nothing.
    """
    genuine, other = await placed(database, 2)
    event_id, paying = uuid4(), Paying(database)
    first, second = (SamplePaid(order_id=str(order)) for order in (genuine, other))
    await _publish_both(broker, event_id, first, *([second] if together else []))
    async with consuming(broker, engine, {SamplePaid: paying}):
        await eventually(lambda: all_acknowledged(broker, *PAYMENTS))
        if not together:
            await _publish_both(broker, event_id, second)
        [row] = await eventually(lambda: failed(engine))
        await eventually(lambda: all_acknowledged(broker, *PAYMENTS))
    assert (row.event_id, row.state, row.reason) == (event_id, "failed", "EVENT_ID_REUSED")
    assert row.payload == second.SerializeToString()
    assert await _confirmed(engine) == {genuine}


async def test_one_body_of_two_types_is_reused(
    broker: Broker, database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The same bytes under one id with another type are another event: EVENT_ID_REUSED."""
    [order] = await placed(database)
    event_id, paying = uuid4(), Paying(database)
    first, second = (kind(order_id=str(order)) for kind in (SampleStatusChanged, SampleNoted))
    assert first.SerializeToString() == second.SerializeToString()
    await _publish_both(broker, event_id, first, second)
    async with consuming(broker, engine, {SampleStatusChanged: paying, SampleNoted: paying}):
        await eventually(lambda: all_acknowledged(broker))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (event_id, "failed", "EVENT_ID_REUSED")
    assert row.type == SampleNoted.DESCRIPTOR.full_name
    assert paying.sets == [[event_id], [event_id]]


async def test_two_bodies_that_fail_are_two_rows(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Neither hides the other, although both came in one set."""
    event_id = uuid4()
    for version in (1, 2):
        await publish(
            broker, SampleStatusChanged(version=version), event_id, Nats_Msg_Id=str(uuid4())
        )
    handler = RecordingHandler(lambda _: Refused("ILLEGAL_TRANSITION", "No."))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: all_acknowledged(broker))
    rows = await failed(engine)
    assert [(row.event_id, row.state) for row in rows] == [(event_id, "failed")] * 2
    bodies = {SampleStatusChanged(version=version).SerializeToString() for version in (1, 2)}
    assert {row.payload for row in rows} == bodies


async def test_failed_body_does_not_end_the_genuine_one(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A forged body under its id has failed: the genuine event is deferred, comes again, and has
    its effect.
    """
    event_id = uuid4()

    def outcome(delivery: Delivery[Any]) -> Outcome[Any]:
        if delivery.message.version == FORGED:
            return Refused("ILLEGAL_TRANSITION")
        return (
            Done(record=None) if handler.seen[event_id] > PARK_AT + 1 else Deferred("EVENT_AHEAD")
        )

    handler = RecordingHandler(outcome)
    for version in (FORGED, 2):
        await publish(
            broker, SampleStatusChanged(version=version), event_id, Nats_Msg_Id=str(uuid4())
        )
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: handler.settled == [event_id])

        async def only_the_forged_one_is_left() -> bool:
            rows = [(row.state, row.payload) for row in await failed(engine)]
            return rows == [
                (FailedState.FAILED, SampleStatusChanged(version=FORGED).SerializeToString())
            ]

        await eventually(only_the_forged_one_is_left)


async def test_operators_name_one_body_by_its_digest(sample: Sample) -> None:
    """Without the digest the call is refused with both digests and changes nothing; with it the
    call changes one row.
    """
    [order] = await placed(sample.context.database)
    event_id = uuid4()
    made = [event(order=str(order)), event(order=str(uuid4()))]
    for body in made:
        await sample.table.record(
            [
                replace(
                    body, event_id=event_id, digest=digest_of(body.subject, body.type, body.payload)
                )
            ]
        )
    genuine, other = (digest_of(body.subject, body.type, body.payload).hex() for body in made)
    for call in (sample.read, sample.replay, sample.discard):
        with pytest.raises(Refused) as refused:
            await call(event_id)
        assert refused.value.reason == "FAILED_EVENT_AMBIGUOUS"
        assert set(refused.value.metadata["digests"].split(", ")) == {genuine, other}
    assert sample.paying.sets == []
    fields = {"consumer": CONSUMER, "event_id": str(event_id)}
    replay = api.ReplayFailedEventRequest(request_id=str(uuid4()), digest=genuine, **fields)
    assert (
        await ask(sample.failed_events.ReplayFailedEvent, replay)
    ).failed_event.state == REPLAYED
    discard = api.DiscardFailedEventRequest(request_id=str(uuid4()), digest=other, **fields)
    assert (
        await ask(sample.failed_events.DiscardFailedEvent, discard)
    ).failed_event.state == DISCARDED
    for digest, state in ((genuine, REPLAYED), (other, DISCARDED)):
        get = api.GetFailedEventRequest(digest=digest, **fields)
        found = (await ask(sample.failed_events.GetFailedEvent, get)).failed_event
        assert (found.state, found.digest) == (state, digest)
    get = api.GetFailedEventRequest(digest="00" * 32, **fields)
    with pytest.raises(NotFound):
        await ask(sample.failed_events.GetFailedEvent, get)
