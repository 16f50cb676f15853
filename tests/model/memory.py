"""A service's database in memory: replaces chassis.write.database without SQL, over the records of
a Store, with points to crash at.

The services' own decisions, operations, RPCs and consumers run over it unchanged. Locks,
constraints and the rows of idempotency keys have their tests on PostgreSQL.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import KeyReused
from chassis.write.apply_commands import Applied, apply_commands


class Crash(BaseException):
    """The process ends here. Committed changes stay, all others are lost. (No handler catches it:
    it is no Exception.)
    """


class Memory:
    """Replaces a Database: keys, one write at a time, and domain events that become messages at the
    commit.
    """

    def __init__(
        self,
        encode: Callable[[Any], OutgoingEvent],
        clock: Callable[[], datetime],
        publish: Callable[[UUID, Message], None],
        point: Callable[[str], None],
    ) -> None:
        """`publish` gets each message with its aggregate's id, in the order of the domain events.
        `point` raises Crash where one is planned.
        """
        self._encode, self.clock, self._publish, self.point = encode, clock, publish, point
        self.keys: dict[str, tuple[bytes, UUID]] = {}
        self.on_change: list[Callable[[Collection[UUID]], None]] = []
        # a caller that opens a transaction gets the same empty connection
        self.engine = self

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Returns no connection: stores read their dictionaries."""
        yield None

    begin = connect = read

    async def was_done(self, _: None, key: str) -> bool:
        """As chassis.write.database.Database.was_done."""
        return key in self.keys

    async def reused(self, _: None, envelopes: Sequence[Envelope[Any]]) -> list[KeyReused | None]:
        """As chassis.write.database.Database.reused."""
        hashes = {each.key: each.request_hash for each in reversed(envelopes)}
        hashes |= {key: self.keys[key][0] for key in hashes if key in self.keys}
        return [
            None if hashes[each.key] == each.request_hash else KeyReused(each.key)
            for each in envelopes
        ]

    def commit(self, fresh: Sequence[Envelope[Any]], applied: Applied[Any, Any]) -> None:
        """Stores the keys of the commands that are done, and publishes their domain events."""
        undone = set(applied.undone)
        self.keys |= {
            each.key: (each.request_hash, each.target) for each in fresh if each.key not in undone
        }
        for domain_event in applied.events:
            event = self._encode(domain_event)
            self._publish(event.aggregate, event.message)
        self.point("committed")


class MemoryWriter:
    """Stands in for chassis.write.writer.Writer, over a Memory."""

    def __init__(self, memory: Memory, *, load: Any, decide: Any, save: Any) -> None:
        self._memory, self._load, self._decide, self._save = memory, load, decide, save

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Any]]:
        """As chassis.write.writer.Writer.write."""
        keys = self._memory.keys
        once = {each.key: each for each in reversed(envelopes)}
        ordered = [once[key] for key in dict.fromkeys(each.key for each in envelopes)]
        fresh = [each for each in ordered if each.key not in keys]
        repeats = {
            each.key: (each.target, keys[each.key][1])
            for each in ordered
            if each.key in keys and keys[each.key][0] == each.request_hash
        }
        workspace = await self._load(
            None,
            [each for each in ordered if each.key not in keys or each.key in repeats],
            {t for _, t in repeats.values()},
        )
        applied = apply_commands(workspace, fresh, self._decide, self._memory.clock())
        outcomes: dict[str, Outcome[Any]] = {each.key: KeyReused(each.key) for each in ordered}
        outcomes |= {
            key: Done(record=workspace.get_repeated(known, proposed), repeat=True)
            for key, (proposed, known) in repeats.items()
        }
        if fresh:
            self._memory.point("write")
            if workspace.after or applied.history:
                await self._save(None, workspace.before, workspace.after, applied.history)
            self._memory.commit(fresh, applied)
        outcomes |= applied.outcomes
        return [
            outcomes[each.key]
            if each.request_hash == once[each.key].request_hash
            else KeyReused(each.key)
            for each in envelopes
        ]


class Wire:
    """Replaces a channel: a call runs the peer's own RPC at once. A planned fault loses the
    request, or the answer.
    """

    def __init__(self, point: Callable[[str], None], fault: Callable[[str], str]) -> None:
        """`fault` returns the fate of a call to a method: "" (none), "request" or "answer" (it is
        lost).
        """
        self._point, self._fault = point, fault
        self._doors: dict[str, Any] = {}

    def serve(self, service: str, servicer: Any) -> None:
        """Sends calls to this service to that servicer."""
        self._doors[service] = servicer

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Any:
        """Returns the callable for one method, as a generated stub requests it."""
        service, method = path.strip("/").split("/")

        async def call(request: Message, timeout: float | None = None) -> Any:
            fault = self._fault(method)
            if fault == "request":
                raise Deferred("DEPENDENCY_UNAVAILABLE", "the request was lost", peer=service)
            answer = await getattr(self._doors[service], method)(request, None)
            self._point("answered")
            if fault == "answer":
                raise Deferred("DEPENDENCY_UNAVAILABLE", "the answer was lost", peer=service)
            return answer

        return call

    unary_stream = unary_unary
