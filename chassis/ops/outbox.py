"""OutboxService: an operator reads the state of a service's publishing, and has events published
again.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import OutboxServiceServicer

from chassis.publish.marks import OutboxRow
from chassis.publish.republish import Events, Republish
from chassis.publish.stream_contents import Entry
from chassis.publish.unmatched_events import UnmatchedEvents
from chassis.values.convert import optional_field, timestamp, timestamp_or_none
from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from chassis.write.idempotency_keys import NO_TARGET, IdempotencyKey

CallContext = grpc.aio.ServicerContext[Any, Any]


class OutboxService(OutboxServiceServicer):
    """ordermesh.ops.v1.OutboxService over one service's outbox. The contract states what each
    method does and answers.
    """

    def __init__(self, republish: Republish, unmatched: UnmatchedEvents, stream: str) -> None:
        """`stream` is the stream that the service publishes on."""
        self._republish, self._unmatched, self._stream = republish, unmatched, stream

    async def GetOutboxStats(
        self, request: api.GetOutboxStatsRequest, context: CallContext
    ) -> api.GetOutboxStatsResponse:
        stats = await self._republish.stats()
        return api.GetOutboxStatsResponse(
            stream=self._stream,
            waiting_count=stats.waiting,
            oldest_waiting_time=timestamp_or_none(stats.oldest_waiting),
            kept_count=stats.kept,
            highest_stream_seq=stats.highest,
            refused_events=[
                api.RefusedEvent(
                    aggregate_id=str(event.aggregate),
                    event_id=str(event.event_id),
                    type=event.type,
                    payload_bytes=event.size,
                    refusal=event.refusal,
                    create_time=timestamp(event.create_time),
                )
                for event in stats.refused
            ],
        )

    async def RepublishEvents(
        self, request: api.RepublishEventsRequest, context: CallContext
    ) -> api.RepublishEventsResponse:
        aggregate = optional_field(request, "aggregate_id")
        events = Events(
            aggregate=UUID(aggregate) if aggregate else None,
            since=optional_field(request, "create_time_from"),
            before=optional_field(request, "create_time_before"),
        )
        if request.dry_run:
            return api.RepublishEventsResponse(event_count=await self._republish.count(events))
        number = await self._republish.republish_events(
            events, IdempotencyKey.of(request_context(request), events.aggregate or NO_TARGET)
        )
        return api.RepublishEventsResponse(event_count=number)

    async def ListUnmatchedEvents(
        self, request: api.ListUnmatchedEventsRequest, context: CallContext
    ) -> api.ListUnmatchedEventsResponse:
        page = page_request(request, _unknown, int)
        found = await self._unmatched.page(page.after[0] if page.after else 0)
        events = [_lost(row) for row in found.lost] + [_unknown(entry) for entry in found.unknown]
        events.sort(key=lambda event: event.stream_seq)
        after = found.after
        if len(events) > page.size:  # the rest is compared again; events at one place stay together
            after = events[page.size - 1].stream_seq
            events = [event for event in events if event.stream_seq <= after]
        token = page.token((after,)) if after else ""
        return api.ListUnmatchedEventsResponse(unmatched_events=events, next_page_token=token)

    async def AdoptEvents(
        self, request: api.AdoptEventsRequest, context: CallContext
    ) -> api.AdoptEventsResponse:
        command = IdempotencyKey.of(request_context(request))
        adopted = await self._unmatched.adopt(command, request.after_stream_seq)
        return api.AdoptEventsResponse(
            adopted_count=adopted.stored,
            unreadable_count=adopted.unreadable,
            more=adopted.after is not None,
            read_stream_seq=adopted.after or 0,
        )


def _lost(row: OutboxRow) -> api.UnmatchedEvent:
    return api.UnmatchedEvent(
        kind=api.UNMATCHED_KIND_LOST,
        event_id=str(row.event_id),
        aggregate_id=str(row.aggregate),
        type=row.type,
        stream_seq=row.stream_seq,
        event_time=timestamp(row.create_time),
    )


def _unknown(entry: Entry) -> api.UnmatchedEvent:
    return api.UnmatchedEvent(
        kind=api.UNMATCHED_KIND_UNKNOWN,
        event_id=entry.event_id,
        aggregate_id=entry.aggregate,
        type=entry.type,
        stream_seq=entry.seq,
        event_time=timestamp(datetime.fromisoformat(entry.time)),
    )
