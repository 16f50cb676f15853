"""Watches: who waits for a record to change is woken, by a commit of this process at once, by another replica's within a poll."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

# The versions of the records that are watched; one that is gone has none.
Versions = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, int]]]


class Watches:
    """All the watches of one process. One query serves them all, each `poll_s` seconds or sooner, and none runs while nobody watches."""

    def __init__(self, versions: Versions, poll_s: float = 0.5) -> None:
        self._versions, self._poll_s = versions, poll_s
        self._watchers: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._seen: dict[UUID, int] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was committed here: look now."""
        self._woken.set()

    @asynccontextmanager
    async def changes(self, record: UUID) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the record may have changed; the watcher clears it before it looks."""
        changed = asyncio.Event()
        self._watchers[record].add(changed)
        self.wake()
        try:
            yield changed
        finally:
            self._watchers[record].discard(changed)
            if not self._watchers[record]:
                del self._watchers[record]
                self._seen.pop(record, None)

    async def run(self) -> None:
        """Looks for changes until it is cancelled. A failed look is raised: its supervisor starts it again."""
        while True:
            if not self._watchers:
                await self._woken.wait()
            self._woken.clear()
            versions = await self._versions(list(self._watchers))
            for record, version in versions.items():
                if self._seen.get(record) != version:
                    self._seen[record] = version
                    for changed in self._watchers.get(record, ()):
                        changed.set()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()
            except TimeoutError:
                continue
