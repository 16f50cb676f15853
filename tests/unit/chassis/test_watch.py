"""Watches: each watcher gets every change, one query serves all, and without a watcher there is no
query.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from uuid import UUID

import pytest

from chassis.rpc import watch
from chassis.rpc.watch import Watches
from tests.support import Eventually

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
NEVER_S = 3600.0
SOON_S = 5.0


class Records:
    """The records' versions, as the database would return them, and the queried ids."""

    def __init__(self) -> None:
        self.versions: dict[UUID, int] = {A: 1, B: 1}
        self.asked: list[list[UUID]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, ids: Collection[UUID]) -> Mapping[UUID, int]:
        self.asked.append(sorted(ids))
        answer = {id: self.versions[id] for id in ids if id in self.versions}
        await self.gate.wait()
        if self.error:
            raise self.error
        return answer


@pytest.fixture
def records() -> Records:
    return Records()


async def running(watches: Watches) -> AsyncIterator[Watches]:
    """The watches, with a running look for changes."""
    task = asyncio.create_task(watches.run())
    yield watches
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def woken(records: Records, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watches]:
    """Watches that query only when they are woken."""
    monkeypatch.setattr(watch, "POLL_S", NEVER_S)
    monkeypatch.setattr(watch, "PAUSE_S", 0)
    async for watches in running(Watches(records)):
        yield watches


@pytest.fixture
async def polling(records: Records, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watches]:
    """Watches that query at short intervals, as for commits of other replicas."""
    monkeypatch.setattr(watch, "POLL_S", 0.001)
    monkeypatch.setattr(watch, "PAUSE_S", 0)
    async for watches in running(Watches(records)):
        yield watches


async def queried(records: Records, eventually: Eventually, times: int = 1) -> None:
    """Waits until so many more queries begin. The results of all but the last have then reached the
    watchers.
    """
    before = len(records.asked)
    await eventually(lambda: len(records.asked) >= before + times)


async def test_commit_here_wakes_its_watchers_at_once(records: Records, woken: Watches) -> None:
    """A change reaches the watchers without a wait for the poll, each time."""
    async with woken.changes(A) as changed:
        for version in (2, 3, 4):
            async with asyncio.timeout(SOON_S):
                await changed.wait()
            changed.clear()
            records.versions[A] = version
            woken.wake()
        async with asyncio.timeout(SOON_S):
            await changed.wait()


async def test_commit_of_another_replica_is_found_by_the_poll(
    records: Records, polling: Watches, eventually: Eventually
) -> None:
    """Without a wake, the poll finds a change; watchers of unchanged records are not woken."""
    async with polling.changes(A) as a, polling.changes(B) as b:
        # the first query wakes all watchers
        await eventually(lambda: a.is_set() and b.is_set())
        a.clear()
        b.clear()
        await queried(records, eventually, 3)
        assert not a.is_set()
        assert not b.is_set()
        records.versions[A] = 2
        await eventually(a.is_set)
        await queried(records, eventually, 3)
        assert not b.is_set()


async def test_one_query_serves_all_watchers(
    records: Records, woken: Watches, eventually: Eventually
) -> None:
    """Any number of watchers, of one record or of several, cost one query, and each of them is
    woken.
    """
    async with woken.changes(A) as a1, woken.changes(A) as a2, woken.changes(B) as b:
        await eventually(lambda: a1.is_set() and a2.is_set() and b.is_set())
        assert records.asked[-1] == [A, B]
        for event in (a1, a2, b):
            event.clear()
        looks = len(records.asked)
        records.versions = {A: 2, B: 2}
        woken.wake()
        await eventually(lambda: a1.is_set() and a2.is_set() and b.is_set())
        assert len(records.asked) == looks + 1


async def test_no_query_is_made_without_a_watcher(
    records: Records, polling: Watches, eventually: Eventually
) -> None:
    """Commits cause no query before the first watch and after the last one."""

    async def commits() -> None:
        for _ in range(10):
            polling.wake()
            await eventually(lambda: not polling._woken.is_set())

    await commits()
    assert not records.asked
    async with polling.changes(A) as changed:
        await eventually(changed.is_set)
    looks = len(records.asked)
    await commits()
    assert len(records.asked) == looks


async def test_watch_that_begins_during_a_query_misses_no_change(
    records: Records, woken: Watches, eventually: Eventually
) -> None:
    """A query that began before the watch does not count for it: another one follows at once."""
    async with woken.changes(A) as first:
        await eventually(first.is_set)
        records.gate.clear()
        woken.wake()
        await queried(records, eventually)
        async with woken.changes(B) as second:
            records.versions[B] = 2
            records.gate.set()
            await eventually(second.is_set)


async def test_change_before_a_watch_is_found_by_its_first_query(
    records: Records, woken: Watches, eventually: Eventually
) -> None:
    """A second watch of a record, and a watch after a pause, start anew: a change between is
    found.
    """
    async with woken.changes(A) as changed:
        await eventually(changed.is_set)
    async with woken.changes(A) as changed:
        await eventually(changed.is_set)


async def test_failed_query_is_repeated(
    records: Records, polling: Watches, eventually: Eventually
) -> None:
    """While the database is unavailable, no watcher is woken and the watches stay open. The next
    successful query finds the change.
    """
    async with polling.changes(A) as changed:
        await eventually(changed.is_set)
        changed.clear()
        records.error = ConnectionError("no database")
        records.versions[A] = 2
        await queried(records, eventually, 3)
        assert not changed.is_set()
        records.error = None
        await eventually(changed.is_set)


async def test_ended_watch_leaves_no_entry(
    records: Records, woken: Watches, eventually: Eventually
) -> None:
    """No entry stays after the end of a watch, an end during its query, or the deletion of its
    record.
    """
    records.gate.clear()
    async with woken.changes(A), woken.changes(C):
        await queried(records, eventually)
    records.gate.set()
    async with woken.changes(B) as changed:
        await eventually(changed.is_set)
    assert not woken._watchers
    assert not woken._seen


async def test_many_commits_cause_few_queries(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two queries there is a pause, for any number of wakes. A change during the pause is
    found after it.
    """
    monkeypatch.setattr(watch, "POLL_S", NEVER_S)
    monkeypatch.setattr(watch, "PAUSE_S", 0.2)
    async for watches in running(Watches(records)):
        async with watches.changes(A) as changed:
            await changed.wait()
            changed.clear()
            records.versions[A] = 2
            for _ in range(50):
                watches.wake()
                await asyncio.sleep(0)
            assert len(records.asked) == 1
            async with asyncio.timeout(SOON_S):
                await changed.wait()
            assert len(records.asked) == 2
