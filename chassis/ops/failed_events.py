"""FailedEventService: an operator lists, reads, replays and discards what a service's consumers could not handle."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceServicer

from chassis.blame import deferring
from chassis.database import Database
from chassis.failed import Entry, Name
from chassis.idempotency import keyed
from chassis.inbox import Inbox
from chassis.ops import wire
from chassis.paging import asked
from chassis.replays import Chosen, Replays, not_found
from chassis.stored_versions import StoredVersions
from chassis.tables import FailedState, StoredVersion

Context = grpc.aio.ServicerContext[Any, Any]

LIMIT = 100
# A handler gets so many at once: what it writes is one transaction.
BATCH = 100


class FailedEventService(FailedEventServiceServicer):
    """ordermesh.ops.v1.FailedEventService over one service's inbox: what each method does and answers stands in the contract."""

    def __init__(self, inbox: Inbox, database: Database, stored: Sequence[StoredVersion] = ()) -> None:
        self._inbox, self._failed, self._replays = inbox, inbox.failed, Replays(database, inbox.failed)
        self._versions = StoredVersions(database, stored)

    async def ListFailedEvents(self, request: api.ListFailedEventsRequest, context: Context) -> api.ListFailedEventsResponse:
        page = asked(request, wire.place, str, UUID)
        with deferring():
            rows = await self._failed.page(wire.wanted(request.filter), page.after, page.size + 1)
        entries, token = page.cut(rows, attrgetter("place"))
        return api.ListFailedEventsResponse(failed_events=map(wire.failed_event, entries), next_page_token=token)

    async def GetFailedEvent(self, request: api.GetFailedEventRequest, context: Context) -> api.GetFailedEventResponse:
        entry = await self._entry(_name(request))
        return api.GetFailedEventResponse(failed_event=wire.with_payload(entry, self._inbox.kinds))

    async def ReplayFailedEvent(self, request: api.ReplayFailedEventRequest, context: Context) -> api.ReplayFailedEventResponse:
        key = keyed(request)
        chosen = await self._replays.one(key, _name(request))
        [now] = await self._handle(chosen, frozenset(FailedState))
        await self._replays.over(key)
        return api.ReplayFailedEventResponse(failed_event=now)

    async def BatchReplayFailedEvents(
        self, request: api.BatchReplayFailedEventsRequest, context: Context
    ) -> api.BatchReplayFailedEventsResponse:
        limit, wanted = request.limit or LIMIT, wire.wanted(request.filter)
        if request.dry_run:
            with deferring():
                rows = await self._failed.page(wanted, None, limit + 1)
            would, number = map(wire.failed_event, rows[:limit]), len(rows[:limit])
            return api.BatchReplayFailedEventsResponse(failed_events=would, replayed_count=number, more=len(rows) > limit)
        key = keyed(request)
        chosen = await self._replays.some(key, wanted, limit + 1)  # the one too many stays: it tells a repeat too that there were more
        now = await self._handle(Chosen(chosen.names[:limit], chosen.handled), wanted.states)
        await self._replays.over(key)
        replayed = sum(event.state == api.FAILED_EVENT_STATE_REPLAYED for event in now)
        return api.BatchReplayFailedEventsResponse(failed_events=now, replayed_count=replayed, more=len(chosen.names) > limit)

    async def DiscardFailedEvent(self, request: api.DiscardFailedEventRequest, context: Context) -> api.DiscardFailedEventResponse:
        await self._replays.discard(keyed(request), _name(request))
        return api.DiscardFailedEventResponse(failed_event=wire.failed_event(await self._entry(_name(request))))

    async def SetStoredVersion(self, request: api.SetStoredVersionRequest, context: Context) -> api.SetStoredVersionResponse:
        fulfillment_id = UUID(request.fulfillment_id) if request.HasField("fulfillment_id") else None
        stored = await self._versions.set(keyed(request), UUID(request.order_id), fulfillment_id, request.version)
        return api.SetStoredVersionResponse(stored_version=stored)

    async def _entry(self, name: Name) -> Entry:
        if name not in (found := await self._entries([name])):
            raise not_found(name)
        return found[name]

    async def _entries(self, names: Sequence[Name]) -> Mapping[Name, Entry]:
        found: dict[Name, Entry] = {}
        for consumer, ids in by_consumer(names):
            with deferring():
                entries = await self._failed.entries(consumer, ids)
            found |= {(consumer, event_id): entry for event_id, entry in entries.items()}
        return found

    async def _handle(self, chosen: Chosen, states: Collection[FailedState]) -> list[api.FailedEvent]:
        """Replays them where that was not done, in their order; answers how they stand then."""
        return [event for names in batches(chosen.names) for event in await self._batch(names, () if chosen.handled else states)]

    async def _batch(self, names: Sequence[Name], states: Collection[FailedState]) -> list[api.FailedEvent]:
        """Replays each consumer's together, of those that stand in one of `states`: a repeat may come when others have settled some."""
        before = await self._entries(names)
        for consumer, ids in by_consumer([n for n in names if n in before and before[n].event.state in states]):
            with deferring():
                await self._inbox.replay(consumer, ids)
        now = await self._entries(names)
        return [wire.as_replayed(name, now.get(name), before.get(name)) for name in names]


def by_consumer(names: Sequence[Name]) -> Iterator[tuple[str, list[UUID]]]:
    """The events of each consumer, in their order."""
    for consumer, group in groupby(sorted(names, key=itemgetter(0)), key=itemgetter(0)):  # the sort is stable: still the oldest first
        yield consumer, [event_id for _, event_id in group]


def batches(names: Sequence[Name]) -> Iterator[Sequence[Name]]:
    """The events in their order, not too many at once."""
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _name(request: api.GetFailedEventRequest | api.ReplayFailedEventRequest | api.DiscardFailedEventRequest) -> Name:
    return request.consumer, UUID(request.event_id)
