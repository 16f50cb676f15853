"""Watches: who waits for a record to change is woken, by a commit of this process at once, by
another replica's within a poll.

What lives here: the waking alone. What a watcher sees is what it reads afterwards, so a change is
never told wrongly, only late.

    async with watches.changes(order_id) as changed:
        while True:
            changed.clear()
            ...                                    # read the record, and tell what is new
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

# The versions of the records that are watched; one that is gone has none.
Versions = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, int]]]

POLL_S = 0.5
PAUSE_S = 0.02

_log = structlog.get_logger(__name__)


class Watches:
    """All the watches of one process. One query serves them all, and none runs while nobody
    watches.

    It runs every POLL_S seconds, sooner when something was committed here, and never within
    PAUSE_S of the one before, however much is committed.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._watchers: dict[UUID, set[asyncio.Event]] = {}
        self._seen: dict[UUID, int] = {}
        self._woken = asyncio.Event()
        self._failed = telemetry.counter(
            "watch_looks_failed_total", "Looks for changes of watched records that failed"
        )

    def wake(self, *_: object) -> None:
        """Looks for changes at once. A database calls it after a commit, see `on_change`."""
        self._woken.set()

    @asynccontextmanager
    async def changes(self, record: UUID) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the record may have changed; the watcher clears it
        before it looks.
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
        """Looks for changes until it is cancelled. A look that fails is counted, and the next
        one finds what it has missed.
        """
        while True:
            while not self._watchers:
                self._woken.clear()
                await self._woken.wait()
            self._woken.clear()
            try:
                await self._look()
            # watches outlive it: they are told late, and go on with their heartbeats
            except Exception as error:  # noqa: BLE001
                self._failed.inc()
                _log.warning("watched records could not be looked at", error=repr(error))
            await asyncio.sleep(PAUSE_S)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        """Wakes the watchers of each record whose version is another than it was at the last
        look.
        """
        for record, version in (await self._versions(list(self._watchers))).items():
            watchers = self._watchers.get(record)
            if watchers and self._seen.get(record) != version:
                self._seen[record] = version
                for changed in watchers:
                    changed.set()
