"""FailedEventService: an operator lists, reads, replays and discards what a service's consumers could not handle."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceServicer

from chassis.blame import deferring
from chassis.errors import NotFound
from chassis.failed import Entry
from chassis.inbox import Inbox
from chassis.ops import wire
from chassis.paging import asked
from chassis.tables import FailedState

Context = grpc.aio.ServicerContext[Any, Any]

LIMIT = 100
# A handler gets so many at once: what it writes is one transaction.
BATCH = 100


class FailedEventService(FailedEventServiceServicer):
    """ordermesh.ops.v1.FailedEventService over one service's inbox: what each method does and answers stands in the contract."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox, self._failed = inbox, inbox.failed

    async def ListFailedEvents(self, request: api.ListFailedEventsRequest, context: Context) -> api.ListFailedEventsResponse:
        page = asked(request, wire.place, str, UUID)
        with deferring():
            rows = await self._failed.page(wire.wanted(request.filter), page.after, page.size + 1)
        entries, token = page.cut(rows, attrgetter("place"))
        return api.ListFailedEventsResponse(failed_events=map(wire.failed_event, entries), next_page_token=token)

    async def GetFailedEvent(self, request: api.GetFailedEventRequest, context: Context) -> api.GetFailedEventResponse:
        entry = await self._entry(request.consumer, UUID(request.event_id))
        return api.GetFailedEventResponse(failed_event=wire.with_payload(entry, self._inbox.kinds))

    async def ReplayFailedEvent(self, request: api.ReplayFailedEventRequest, context: Context) -> api.ReplayFailedEventResponse:
        entry = await self._entry(request.consumer, UUID(request.event_id))
        [now] = await self._replay([entry])
        return api.ReplayFailedEventResponse(failed_event=wire.failed_event(now))

    async def BatchReplayFailedEvents(
        self, request: api.BatchReplayFailedEventsRequest, context: Context
    ) -> api.BatchReplayFailedEventsResponse:
        limit = request.limit or LIMIT
        with deferring():
            rows = await self._failed.page(wire.wanted(request.filter), None, limit + 1)
        entries, replayed = rows[:limit], len(rows[:limit])
        if not request.dry_run:
            entries = [now for batch in batches(entries) for now in await self._replay(batch)]
            replayed = sum(entry.event.state is FailedState.REPLAYED for entry in entries)
        return api.BatchReplayFailedEventsResponse(
            failed_events=map(wire.failed_event, entries), replayed_count=replayed, more=len(rows) > limit
        )

    async def DiscardFailedEvent(self, request: api.DiscardFailedEventRequest, context: Context) -> api.DiscardFailedEventResponse:
        event_id = UUID(request.event_id)
        with deferring():
            await self._failed.discard(request.consumer, [event_id])
        return api.DiscardFailedEventResponse(failed_event=wire.failed_event(await self._entry(request.consumer, event_id)))

    async def _entry(self, consumer: str, event_id: UUID) -> Entry:
        with deferring():
            found = await self._failed.entries(consumer, [event_id])
        if event_id not in found:
            raise NotFound(
                "FAILED_EVENT_NOT_FOUND", f"{consumer} has no failed event {event_id}.", consumer=consumer, event_id=str(event_id)
            )
        return found[event_id]

    async def _replay(self, entries: Sequence[Entry]) -> list[Entry]:
        """Replays them, each consumer's together, in their order; answers how they stand then."""
        now: dict[tuple[str, UUID], Entry] = {}
        for consumer, group in groupby(sorted(entries, key=attrgetter("event.consumer")), key=attrgetter("event.consumer")):
            ids = [entry.event.event_id for entry in group]  # the sort is stable: still the oldest first
            with deferring():
                await self._inbox.replay(consumer, ids)
                found = await self._failed.entries(consumer, ids)
            now |= {(consumer, event_id): entry for event_id, entry in found.items()}
        return [now.get((e.event.consumer, e.event.event_id)) or wire.as_replayed(e) for e in entries]


def batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The entries in their order, not too many at once."""
    for start in range(0, len(entries), BATCH):
        yield entries[start : start + BATCH]
