"""OutboxService: an operator sees how a service's publishing stands, and has events published again."""

from typing import Any
from uuid import UUID

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import OutboxServiceServicer

from chassis.claims import NOBODY, Claim
from chassis.convert import given, timestamp, timestamp_or_none
from chassis.idempotency import keyed
from chassis.republish import Events, Republish

Context = grpc.aio.ServicerContext[Any, Any]


class OutboxService(OutboxServiceServicer):
    """ordermesh.ops.v1.OutboxService over one service's outbox: what each method does and answers stands in the contract."""

    def __init__(self, republish: Republish, stream: str) -> None:
        """`stream` is the stream that the service publishes on."""
        self._republish, self._stream = republish, stream

    async def GetOutboxStats(self, request: api.GetOutboxStatsRequest, context: Context) -> api.GetOutboxStatsResponse:
        stats = await self._republish.stats()
        return api.GetOutboxStatsResponse(
            stream=self._stream,
            waiting_count=stats.waiting,
            oldest_waiting_time=timestamp_or_none(stats.oldest_waiting),
            kept_count=stats.kept,
            highest_stream_seq=stats.highest,
            refused_events=[
                api.RefusedEvent(
                    aggregate_id=str(its.aggregate),
                    event_id=str(its.event_id),
                    type=its.type,
                    payload_bytes=its.size,
                    refusal=its.refusal,
                    create_time=timestamp(its.create_time),
                )
                for its in stats.refused
            ],
        )

    async def RepublishEvents(self, request: api.RepublishEventsRequest, context: Context) -> api.RepublishEventsResponse:
        aggregate = given(request, "aggregate_id")
        events = Events(
            aggregate=UUID(aggregate) if aggregate else None,
            since=given(request, "create_time_from"),
            before=given(request, "create_time_before"),
        )
        if request.dry_run:
            return api.RepublishEventsResponse(event_count=await self._republish.count(events))
        key = keyed(request)
        number = await self._republish.again(events, Claim(key.key, key.digest, events.aggregate or NOBODY))
        return api.RepublishEventsResponse(event_count=number)
