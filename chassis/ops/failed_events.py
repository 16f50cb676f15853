"""FailedEventService: an operator lists, reads, replays and discards the events that a service's
consumers could not handle.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

import grpc
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceServicer

from chassis.consume.failed_event_records import OPEN, FailedEventFilter, FailedEventRow, Name
from chassis.consume.inbox import Inbox
from chassis.consume.replays import Chosen, Replays, not_found
from chassis.ops import wire
from chassis.values.paging import page_request, refused
from chassis.values.request_context import request_context
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.stored_versions import set_stored_version
from chassis.write.tables import FailedState, StoredVersion

CallContext = grpc.aio.ServicerContext[Any, Any]

LIMIT = 1_000
# How many events a handler gets at once in a replay: the handler writes them in one transaction.
BATCH = 100
# How many events of a batch a dry run shows.
SHOWN = 100


class FailedEventService(FailedEventServiceServicer):
    """ordermesh.ops.v1.FailedEventService over one service's inbox. The contract states what each
    method does and answers.
    """

    def __init__(
        self, inbox: Inbox, database: Database, stored: Sequence[StoredVersion] = ()
    ) -> None:
        self._inbox, self._failed, self._replays = (
            inbox,
            inbox.failed,
            Replays(database, inbox.failed),
        )
        self._database, self._stored = database, stored

    async def ListFailedEvents(
        self, request: api.ListFailedEventsRequest, context: CallContext
    ) -> api.ListFailedEventsResponse:
        page = page_request(request, wire.failed_event, datetime, str, UUID, str)
        if page.after and not wire.is_digest(page.after[-1]):
            raise refused()
        with deferring_outages():
            rows = await self._failed.page(wire.wanted(request.filter), page.after, page.size + 1)
        events, token = page.cut(rows, attrgetter("place"))
        return api.ListFailedEventsResponse(failed_events=events, next_page_token=token)

    async def GetFailedEvent(
        self, request: api.GetFailedEventRequest, context: CallContext
    ) -> api.GetFailedEventResponse:
        entry = await self._entry(await self._replays.only(wire.named(request)))
        return api.GetFailedEventResponse(
            failed_event=wire.with_payload(entry, self._inbox.dispatcher.kinds)
        )

    async def ReplayFailedEvent(
        self, request: api.ReplayFailedEventRequest, context: CallContext
    ) -> api.ReplayFailedEventResponse:
        key = request_context(request)
        chosen = await self._replays.one(key, wire.named(request))
        [now] = [event async for event in self._handled(chosen, frozenset(FailedState))]
        await self._replays.over(key)
        return api.ReplayFailedEventResponse(failed_event=now)

    async def BatchReplayFailedEvents(
        self, request: api.BatchReplayFailedEventsRequest, context: CallContext
    ) -> api.BatchReplayFailedEventsResponse:
        limit, wanted = request.limit or LIMIT, wire.wanted(request.filter)
        if request.dry_run:
            would, count = await self._would(wanted, limit)
            return api.BatchReplayFailedEventsResponse(
                failed_events=would, tried_count=min(count, limit), more=count > limit
            )
        key = request_context(request)
        chosen = await self._replays.some(key, wanted, limit)
        stay, replayed = list[api.FailedEvent](), 0
        async for event in self._handled(chosen, wanted.states):
            if event.state == api.FAILED_EVENT_STATE_REPLAYED:
                replayed += 1
            elif len(stay) < SHOWN:
                stay.append(event)
        await self._replays.over(key)
        return api.BatchReplayFailedEventsResponse(
            failed_events=stay,
            replayed_count=replayed,
            tried_count=len(chosen.names),
            more=chosen.more,
        )

    async def DiscardFailedEvent(
        self, request: api.DiscardFailedEventRequest, context: CallContext
    ) -> api.DiscardFailedEventResponse:
        name = await self._replays.discard(request_context(request), wire.named(request))
        return api.DiscardFailedEventResponse(
            failed_event=wire.failed_event(await self._entry(name))
        )

    async def BatchDiscardFailedEvents(
        self, request: api.BatchDiscardFailedEventsRequest, context: CallContext
    ) -> api.BatchDiscardFailedEventsResponse:
        limit, wanted = request.limit or LIMIT, wire.wanted(request.filter)
        wanted = replace(wanted, states=[state for state in wanted.states if state in OPEN])
        if request.dry_run:
            would, count = await self._would(wanted, limit)
            return api.BatchDiscardFailedEventsResponse(
                failed_events=would, discarded_count=min(count, limit), more=count > limit
            )
        chosen = await self._replays.some(request_context(request), wanted, limit, discard=True)
        return api.BatchDiscardFailedEventsResponse(
            discarded_count=len(chosen.names), more=chosen.more
        )

    async def _would(
        self, wanted: FailedEventFilter, limit: int
    ) -> tuple[list[api.FailedEvent], int]:
        """Returns the first of the events that a batch would concern, and how many they are: one
        more than `limit` at most.
        """
        with deferring_outages():
            rows = await self._failed.page(wanted, None, min(limit, SHOWN))
        return [wire.failed_event(row) for row in rows], await self._replays.count(
            wanted, limit + 1
        )

    async def SetStoredVersion(
        self, request: api.SetStoredVersionRequest, context: CallContext
    ) -> api.SetStoredVersionResponse:
        fulfillment_id = (
            UUID(request.fulfillment_id) if request.HasField("fulfillment_id") else None
        )
        stored = await set_stored_version(
            self._database,
            self._stored,
            request_context(request),
            order_id=UUID(request.order_id),
            fulfillment_id=fulfillment_id,
            version=request.version,
        )
        return api.SetStoredVersionResponse(stored_version=stored)

    async def _entry(self, name: Name) -> FailedEventRow:
        if name not in (found := await self._entries([name])):
            raise not_found(*name[:2])
        return found[name]

    async def _entries(self, names: Sequence[Name]) -> Mapping[Name, FailedEventRow]:
        with deferring_outages():
            return await self._failed.entries(names)

    async def _handled(
        self, chosen: Chosen, states: Collection[FailedState]
    ) -> AsyncIterator[api.FailedEvent]:
        """Replays those that are in one of `states`, in their order, if the request has not done so
        before: when a repeat comes, others may be settled. Yields all with their new state.
        """
        replayable = () if chosen.handled else states
        for start in range(0, len(chosen.names), BATCH):
            names = chosen.names[start : start + BATCH]
            before = await self._entries(names)
            if tried := [n for n in names if n in before and before[n].event.state in replayable]:
                with deferring_outages():
                    await self._inbox.replay(tried)
            now = await self._entries(names)
            for name in names:
                yield wire.as_replayed(name, now.get(name), before.get(name))
