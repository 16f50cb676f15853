"""The running sample service, and the calls of its operators. No tests here."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub, OutboxServiceStub
from sqlalchemy import update

from chassis.consume.delivery import Delivery
from chassis.consume.failed_event_records import ConsumerEvent, digest_of
from chassis.consume.failed_events import FailedEvents
from chassis.rpc.client import ask, connect, pages
from chassis.service import ServiceContext, service_context
from chassis.values.config import ServiceConfig
from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred
from chassis.write.database import Database
from chassis.write.tables import FailedState
from devstack.ports import free_ports
from tests.sample import store
from tests.sample.events import SamplePaid
from tests.sample.inbox import states
from tests.sample.model import ConfirmPayment
from tests.sample.writes import write

CONSUMER = "sample-payments"
DEFERRED, FAILED, REPLAYED, DISCARDED = (
    api.FAILED_EVENT_STATE_DEFERRED,
    api.FAILED_EVENT_STATE_FAILED,
    api.FAILED_EVENT_STATE_REPLAYED,
    api.FAILED_EVENT_STATE_DISCARDED,
)
MORNING = datetime(2026, 11, 22, 9, tzinfo=UTC)


class Config(ServiceConfig):
    """The sample's settings."""

    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:0"
    metrics_address: str = "127.0.0.1:0"
    drain_delay_s: float = 0.0


class Paying:
    """The sample's handler: an order is paid. It raises while it is `broken`, and defers while it
    `waits`.
    """

    def __init__(self, database: Database) -> None:
        self.database, self.broken, self.waits = database, False, False
        self.sets: list[list[UUID]] = []

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        self.sets.append([d.event_id for d in deliveries])
        if self.broken:
            raise ZeroDivisionError("a bug")
        if self.waits:
            return [Deferred("PAYMENT_OUTSTANDING", "Not yet.")] * len(deliveries)
        return await write(
            self.database,
            *(
                Envelope.of_event(
                    d, ConfirmPayment(), target=UUID(d.message.order_id), actor="payment"
                )
                for d in deliveries
            ),
        )


class Sample:
    """The running sample service, and its operators' calls."""

    def __init__(self, context: ServiceContext, paying: Paying, channel: grpc.aio.Channel) -> None:
        self.context, self.paying, self.engine = context, paying, context.database.engine
        failed_events: Any = FailedEventServiceStub(channel)
        outbox: Any = OutboxServiceStub(channel)
        self.failed_events, self.outbox = failed_events, outbox
        self.table = FailedEvents(self.engine, store.failed_events)

    async def listed(self, **filters: Any) -> list[UUID]:
        """Returns the events that a filter finds, over all pages of two."""
        request = api.ListFailedEventsRequest(filter=api.FailedEventFilter(**filters))
        found = [
            event
            async for page in pages(
                self.failed_events.ListFailedEvents, request, "failed_events", size=2
            )
            for event in page
        ]
        assert not any(event.payload or event.payload_json for event in found)
        return [UUID(event.event_id) for event in found]

    async def read(self, event_id: UUID) -> api.FailedEvent:
        request = api.GetFailedEventRequest(consumer=CONSUMER, event_id=str(event_id))
        answer: api.GetFailedEventResponse = await ask(self.failed_events.GetFailedEvent, request)
        return answer.failed_event

    async def replay(self, event_id: UUID, consumer: str = CONSUMER) -> api.FailedEvent:
        request = api.ReplayFailedEventRequest(
            request_id=str(uuid4()), consumer=consumer, event_id=str(event_id)
        )
        answer: api.ReplayFailedEventResponse = await ask(
            self.failed_events.ReplayFailedEvent, request
        )
        return answer.failed_event

    async def discard(self, event_id: UUID) -> api.FailedEvent:
        request = api.DiscardFailedEventRequest(
            request_id=str(uuid4()), consumer=CONSUMER, event_id=str(event_id)
        )
        answer: api.DiscardFailedEventResponse = await ask(
            self.failed_events.DiscardFailedEvent, request
        )
        return answer.failed_event

    async def replay_all(
        self, limit: int = 0, dry_run: bool = False, **filters: Any
    ) -> api.BatchReplayFailedEventsResponse:
        request = api.BatchReplayFailedEventsRequest(
            request_id=str(uuid4()),
            filter=api.FailedEventFilter(**filters),
            limit=limit,
            dry_run=dry_run,
        )
        return await ask(self.failed_events.BatchReplayFailedEvents, request)

    async def fail(self, event: ConsumerEvent, minutes: int = 0) -> UUID:
        """Stores the event as failed, so many minutes after nine in the morning. A deferred one is
        not due soon.
        """
        await self.table.record([event])
        t = store.failed_events.c
        times = {"first_time": MORNING + timedelta(minutes=minutes)}
        if event.state is FailedState.DEFERRED:
            times["next_try_time"] = datetime.now(UTC) + timedelta(hours=1)
        async with self.engine.begin() as connection:
            await connection.execute(
                update(store.failed_events).where(t.event_id == event.event_id).values(times)
            )
        return event.event_id

    async def are(self, expected: dict[UUID, str]) -> bool:
        return await states(self.engine) == expected


@asynccontextmanager
async def operated(sample_url: str, nats_url: str) -> AsyncIterator[Sample]:
    """Runs the sample service on its own port."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = Config.model_validate(
        {"database_url": sample_url, "nats_url": nats_url, "listen_address": address}
    )
    async with service_context(config, store, stream_name="ORDERS", encode=store.event) as context:
        paying = Paying(context.database)
        await context.open([], {SamplePaid: paying})
        async with connect(address) as channel:
            yield Sample(context, paying, channel)


def event(state: FailedState = FailedState.FAILED, order: str = "", **fields: Any) -> ConsumerEvent:
    body = SamplePaid(order_id=order).SerializeToString()
    name, subject = SamplePaid.DESCRIPTOR.full_name, "payments.sample.paid"
    digest = digest_of(subject, name, body)
    made = ConsumerEvent(
        consumer=CONSUMER,
        event_id=uuid4(),
        digest=digest,
        state=state,
        stream="PAYMENTS",
        stream_seq=7,
        subject=subject,
        type=name,
        aggregate="",
        payload=body,
        traceparent=None,
        event_time=MORNING,
        reason="ORDER_NOT_FOUND",
        error="",
        attempts=1,
    )
    return replace(made, **fields)
