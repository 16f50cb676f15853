"""Each kind of fault, injected into a running stack, with the evidence of its effect."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chassis.broker.stream import BROKER_ERRORS
from devstack.child import Child
from devstack.processes import Service
from devstack.stack import Stack
from tests.chaos.connections import Proxies
from tests.chaos.events import Events
from tests.chaos.plan import STREAMS, Fault, Kind
from tests.integration.devstack.processes import descendants
from tests.proxy import ANSWERED, BOTH, Proxy

DELAYS_S: Final = (0.02, 0.1, 0.4)
MEETING_S: Final = 8.0  # how long a fault that needs bytes in transit waits for some
SILENT_S: Final = 20.0  # how long until the first use of a silent connection


@dataclass(slots=True, kw_only=True)
class Strike:
    """The result of a fault. `evidence` is empty if it had no effect; `recovered_s` counts from its
    end to the next progress.
    """

    fault: Fault
    began: float
    evidence: str = ""
    ended: float = 0.0
    recovered_s: float | None = None
    trouble: str = ""


class Faults:
    """Injects faults into a stack. Faults at the same process wait for each other; all others may
    run at once.
    """

    def __init__(self, stack: Stack, proxies: Proxies, events: Events, seed: int) -> None:
        self.strikes: list[Strike] = []
        # processes that did not drain on request
        self.unclean: list[str] = []
        self._stack, self._proxies, self._events = stack, proxies, events
        self._chance = random.Random(f"details of {seed}")
        self._turns: dict[str, asyncio.Lock] = {}
        self._recoveries: set[asyncio.Task[None]] = set()

    async def run(self, plan: Sequence[Fault], began: float) -> None:
        """Injects the planned faults, with times from `began` (monotonic). All are over at the
        return, and each stopped process runs again.
        """
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(  # until the fault's time, by the plan
                    max(0.0, began + fault.at_s - time.monotonic())
                )
                group.create_task(self._strike(fault))

    async def heal(self) -> None:
        """Ends all faults: each process and connection works again."""
        for proxy in self._proxies.by_connection.values():
            proxy.go()
        for name, service in self._stack.services.items():
            async with self._turn(name):
                if service.child is None or not service.child.running:
                    await service.start()

    def give_up(self) -> None:
        """Stops the wait for progress."""
        for task in self._recoveries:
            task.cancel()

    async def _strike(self, fault: Fault) -> None:
        strike = Strike(fault=fault, began=time.monotonic())
        self.strikes.append(strike)
        try:
            strike.evidence = await self._do(fault)
        except (*BROKER_ERRORS, LookupError) as error:
            strike.trouble = repr(error)
        strike.ended = time.monotonic()
        if strike.evidence:
            task = asyncio.create_task(self._recover(strike))
            self._recoveries.add(task)
            task.add_done_callback(self._recoveries.discard)

    async def _recover(self, strike: Strike) -> None:
        strike.recovered_s = await self._events.progress(
            _streams_of(strike.fault.target), strike.ended
        )

    async def _do(self, fault: Fault) -> str:
        target, lasts_s = fault.target, fault.lasts_s
        if fault.target in self._proxies.by_connection:
            return await self._on_connection(fault, self._proxies.by_connection[fault.target])
        if (evidence := await self._on_stream(fault)) is not None:
            return evidence
        async with self._turn(target):
            match fault.kind:
                case Kind.KILL:
                    return await self._kill(target, lasts_s)
                case Kind.FREEZE:
                    return await self._freeze(self._child(target), lasts_s)
                case Kind.RESTART:
                    return await self._restart(target, lasts_s)
                case Kind.WIPE:
                    return await self._wipe(lasts_s)
                case Kind.ROLL_BACK:
                    return await self._roll_back(lasts_s)
        raise LookupError(f"no fault is called {fault.kind} on {target}")

    async def _on_stream(self, fault: Fault) -> str | None:
        """Injects a fault of a stream and returns its evidence; None for a fault of another
        kind.
        """
        target = fault.target
        match fault.kind:
            case Kind.DELETE_STREAM:
                return _counted(await self._events.delete_stream(target), "events lost")
            case Kind.DELETE_CONSUMER:
                return _counted(
                    await self._events.delete_consumer(target, self._chance), "events come again"
                )
            case Kind.SHUFFLE:
                return _counted(
                    await self._events.shuffle(target, self._chance), "events again, shuffled"
                )
            case Kind.STEAL:
                return _counted(
                    await self._events.steal(target, self._chance, fault.lasts_s), "events late"
                )
        return None

    # --- processes

    async def _kill(self, target: str, lasts_s: float) -> str:
        child = self._child(target)
        child.send(signal.SIGKILL)
        code = await asyncio.to_thread(child.kill)
        await asyncio.sleep(lasts_s)  # the fault's length, by the plan
        await self._start(target)
        return f"process {child.pid} ended by {signal.Signals(-code).name}" if code < 0 else ""

    async def _freeze(self, child: Child, lasts_s: float) -> str:
        child.send(signal.SIGSTOP)
        # PostgreSQL works in child processes; it starts no new ones while it is stopped
        family = {child.pid, *descendants(child.pid)}
        _signal(family, signal.SIGSTOP)
        try:
            await asyncio.sleep(lasts_s)  # the fault's length, by the plan
            frozen = [pid for pid in family if _state(pid) == "T"]
        finally:
            _signal(family, signal.SIGCONT)
        return _counted(len(frozen), "processes stood still")

    async def _restart(self, target: str, lasts_s: float) -> str:
        child = self._child(target)
        if target in self._stack.services:
            await self._stack.services[target].stop()
        else:
            await self._stack.tend(self._server(target).stop)
        code = child.exit_code
        if target in self._stack.services and code != 0:
            self.unclean.append(
                f"{target} (process {child.pid}) got SIGTERM, and ended with {code}"
            )
        await asyncio.sleep(lasts_s)  # the fault's length, by the plan
        await self._start(target)
        return f"process {child.pid} ended with {code}"

    async def _start(self, target: str) -> None:
        if target in self._stack.services:
            await self._stack.services[target].start()
        else:
            await self._stack.tend(self._server(target).start)

    # --- connections

    async def _on_connection(self, fault: Fault, proxy: Proxy) -> str:
        before = dict(_counts(proxy))

        def since(name: str) -> int:
            return _counts(proxy)[name] - before[name]

        match fault.kind:
            case Kind.CUT:
                proxy.losing = BOTH
                await _until(lambda: since("lost") > 0, MEETING_S)
                proxy.cut()
                proxy.go()
                return _counted(since("cut") + since("lost"), "connections reset", since("lost"))
            case Kind.ROB:
                proxy.losing = frozenset({ANSWERED})
                await asyncio.sleep(fault.lasts_s)  # the fault's length, by the plan
                proxy.go()
                return _counted(since("lost"), "answers lost")
            case Kind.DELAY:
                proxy.delay_s = self._chance.choice(DELAYS_S)
                await asyncio.sleep(fault.lasts_s)  # the fault's length, by the plan
                proxy.go()
                return _counted(since("delayed"), "portions late")
            case Kind.HOLD:
                proxy.stop()
                await asyncio.sleep(fault.lasts_s)  # the fault's length, by the plan
                proxy.go()
                return _counted(since("held"), "connections held")
            case Kind.STRAND:
                proxy.freeze()
                await _until(lambda: since("stranded") > 0, SILENT_S)
                return _counted(since("stranded"), "connections silent for ever")
        raise LookupError(f"a connection has no fault {fault.kind}")

    # --- the store

    async def _wipe(self, lasts_s: float) -> str:
        before = await self._events.sequences()
        async with self._store(lasts_s) as store:
            shutil.rmtree(store)
        return _counted(sum(before.values()), "events lost")

    async def _roll_back(self, lasts_s: float) -> str:
        """Copies the store, and puts the copy in its place some time later."""
        copied = await self._events.sequences()
        copy = self._server("nats").log.with_name("nats.copy")
        shutil.rmtree(copy, ignore_errors=True)
        async with self._store(0.0) as store:
            shutil.copytree(store, copy)
        await asyncio.sleep(lasts_s)  # the fault's length, by the plan
        before = await self._events.sequences()
        async with self._store(0.0) as store:
            shutil.rmtree(store)
            copy.rename(store)
        return _counted(sum(before.values()) - sum(copied.values()), "events lost")

    @asynccontextmanager
    async def _store(self, lasts_s: float) -> AsyncIterator[Path]:
        """The broker's store, while the broker is stopped for `lasts_s` or longer."""
        nats = self._stack.nats
        if nats is None:
            raise LookupError("the broker is no process of the stack")
        await self._stack.tend(nats.kill)
        try:
            yield nats.store
            await asyncio.sleep(lasts_s)  # the fault's length, by the plan
        finally:
            await self._stack.tend(nats.start)

    # --- the processes

    def _turn(self, target: str) -> asyncio.Lock:
        return self._turns.setdefault(target, asyncio.Lock())

    def _server(self, target: str) -> Any:
        server = getattr(self._stack, target)
        if server is None:
            raise LookupError(f"{target} is no process of the stack")
        return server

    def _child(self, target: str) -> Child:
        part: Service | Any = self._stack.services.get(target) or self._server(target)
        if part.child is None or not part.child.running:
            raise LookupError(f"{target} does not run")
        child: Child = part.child
        return child


def _streams_of(target: str) -> Sequence[str]:
    """Returns the streams on which progress is expected after a fault: those of the fault's
    service, or all.
    """
    service = target.partition(">")[0]
    if service in STREAMS:
        return (STREAMS[service],)
    return (target,) if target in STREAMS.values() else tuple(STREAMS.values())


def _counted(count: int, what: str, enough: int | None = None) -> str:
    """Returns the evidence; empty without an effect (or without the effect that counts,
    `enough`).
    """
    return f"{count} {what}" if (count if enough is None else enough) else ""


def _counts(proxy: Proxy) -> dict[str, int]:
    struck = proxy.struck
    return {
        "held": struck.held,
        "delayed": struck.delayed,
        "lost": struck.lost,
        "stranded": struck.stranded,
        "cut": struck.cut,
    }


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _state(pid: int) -> str:
    """Returns a process's state as in /proc: T if it is stopped; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Waits until the condition holds, or the time is over."""
    deadline = time.monotonic() + timeout_s
    # a proxy's count sets no asyncio.Event
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # see above; the deadline bounds the loop
