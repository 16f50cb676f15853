"""Watches: wakes the watchers of a record that has changed. A commit of this process wakes them at
once, one of another replica within a poll.

This module only wakes. A watcher reads the record afterwards, so a change is never reported
wrongly, only late.

    async with watches.changes(order_id) as changed:
        while True:
            changed.clear()
            ...                                    # read the record, and send what is new
            async with asyncio.timeout(heartbeat_s):
                await changed.wait()
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn
from uuid import UUID

import structlog

from chassis.observe import telemetry

# Returns the versions of the watched records; a deleted one has none.
Versions = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, int]]]

POLL_S = 0.5
PAUSE_S = 0.02

_log = structlog.get_logger(__name__)


class Watches:
    """All the watches of one process. One query serves them all, and none runs without a watcher.

    It runs every POLL_S seconds, sooner after a commit of this process, and never within PAUSE_S of
    the one before, even with many commits.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._watchers: dict[UUID, set[asyncio.Event]] = {}
        self._seen: dict[UUID, int] = {}
        self._woken = asyncio.Event()
        self._failed = telemetry.counter(
            "watch_poll_failures_total", "Failed queries for changes of watched records"
        )

    def wake(self, *_: object) -> None:
        """Runs the query now. A database calls it after a commit, see `on_change`."""
        self._woken.set()

    @asynccontextmanager
    async def changes(self, record: UUID) -> AsyncIterator[asyncio.Event]:
        """Yields an event that is set when the record may have changed; the watcher clears it
        before it reads.
        """
        changed = asyncio.Event()
        self._watchers.setdefault(record, set()).add(changed)
        self.wake()
        try:
            yield changed
        finally:
            self._watchers[record].discard(changed)
            if not self._watchers[record]:
                del self._watchers[record]
                self._seen.pop(record, None)

    async def run(self) -> NoReturn:
        """Looks for changes until it is cancelled. A look that fails is counted, and the next one
        finds the changes that it has missed.
        """
        while True:
            while not self._watchers:
                self._woken.clear()
                await self._woken.wait()
            self._woken.clear()
            try:
                await self._look()
            # watches survive it: their change comes late, and their heartbeats go on
            except Exception as error:  # noqa: BLE001
                self._failed.inc()
                _log.warning("the query for watched records failed", error=repr(error))
            await asyncio.sleep(PAUSE_S)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        """Wakes the watchers of each record whose version has changed since the last look."""
        for record, version in (await self._versions(list(self._watchers))).items():
            watchers = self._watchers.get(record)
            if watchers and self._seen.get(record) != version:
                self._seen[record] = version
                for changed in watchers:
                    changed.set()
