"""The envelope that carries a command to the write, and the context that a decider gets. Pure.

A service's wire functions put commands into envelopes, and `Writer.write` takes the envelopes.
A decider gets the record, the command and a Context. The command has domain data only.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.errors import Defect
from chassis.values.request_context import RequestContext

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
R = TypeVar("R")
H = TypeVar("H")

IDS_MAX = 1 << 20  # of ids that one command can make


class EventSource(Protocol):
    """What an envelope takes from an event. `chassis.consume.delivery.Delivery` has it.

    This is a protocol because this module is pure and chassis.consume.delivery imports the broker's
    client.
    """

    @property
    def key(self) -> str: ...
    @property
    def request_hash(self) -> bytes: ...
    @property
    def cause(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The input of a decider beside the record and the command.

    time           the database's clock, read after the records were locked
    target         the id of the record that the command names
    actor          the role or the service that makes the change, for the history
    cause          the request or the event that led to the command, for the history
    claimed_actor  the person or service that the caller claims to act for
    note           the caller's reason in free text
    """

    time: datetime
    target: UUID
    actor: str
    cause: str
    claimed_actor: str | None
    note: str | None
    # 54 bits of the key's hash: enough for `new_id`, and the key cannot be computed from them.
    _key_bits: int = field(repr=False)

    def new_id(self, number: int) -> UUID:
        """Returns the UUIDv7 of the `number`th record that the command creates.

        The same key, time (to the millisecond) and number give the same id. Ids of one command
        sort by number, and ids of several commands by time. Raises ValueError beyond IDS_MAX.
        """
        if not 0 <= number < IDS_MAX:
            raise ValueError(f"a command makes {IDS_MAX} ids at most, not number {number}")
        milliseconds = int(self.time.timestamp() * 1000)
        high, low = divmod(number, 1 << 8)
        fixed = milliseconds << 80 | 7 << 76 | 0b10 << 62  # time, version, variant
        return UUID(int=fixed | high << 64 | low << 54 | self._key_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope(Generic[C_co]):
    """A command with the data about it that the write and the history need.

    key            `<method>:<request_id>` or `<consumer>:<event_id>`; `<key>:<step>` where one
                   request or event needs several writes
    request_hash   the hash of the request or event; the write refuses a key with another one
    target         the id of the record that the command names; a new record gets this id
    actor, cause, claimed_actor, note   see Context
    """

    key: str
    request_hash: bytes
    target: UUID
    actor: str
    cause: str
    command: C_co
    claimed_actor: str | None = None
    note: str | None = None

    @staticmethod
    def of_request(
        context: RequestContext,
        command: C,
        *,
        target: UUID,
        actor: str,
        cause: str,
    ) -> "Envelope[C]":
        """Returns the envelope of a request's command, with the call's claimed actor and note.

        `cause` is what the service's history stores for a request: its request_id, or its key.
        """
        return Envelope(
            key=context.key,
            request_hash=context.request_hash,
            target=target,
            actor=actor,
            cause=cause,
            command=command,
            claimed_actor=context.claimed_actor,
            note=context.note,
        )

    @staticmethod
    def of_event(source: EventSource, command: C, *, target: UUID, actor: str) -> "Envelope[C]":
        """Returns the envelope of an event's command. `actor` is the service that published it."""
        return Envelope(
            key=source.key,
            request_hash=source.request_hash,
            target=target,
            actor=actor,
            cause=source.cause,
            command=command,
        )

    def with_command(self, command: C) -> "Envelope[C]":
        """Returns this envelope around another command."""
        other: Envelope[C] = replace(cast(Any, self), command=command)
        return other

    def step(self, name: str, command: C) -> "Envelope[C]":
        """Returns the envelope of a further write of the same request or event."""
        return replace(self.with_command(command), key=f"{self.key}:{name}")

    def context(self, time: datetime) -> Context:
        """Returns the context for a decider at `time`: it has all of this envelope but its key."""
        key_hash = hashlib.sha256(self.key.encode()).digest()
        return Context(
            time=time,
            target=self.target,
            actor=self.actor,
            cause=self.cause,
            claimed_actor=self.claimed_actor,
            note=self.note,
            _key_bits=int.from_bytes(key_hash[:7]) & (1 << 54) - 1,
        )


Decider = Callable[[R | None, Any, Context], Decision[R, H]]


def decider(
    table: Mapping[type[Any], Decider[R, H]],
) -> Callable[[R | None, Envelope[Any], datetime], Decision[R, H]]:
    """Returns the `decide` that a Writer takes: it picks the decider by the command's type.

    It raises Defect for a command without a decider.
    """

    def decide(record: R | None, envelope: Envelope[Any], now: datetime) -> Decision[R, H]:
        kind = type(envelope.command)
        if kind not in table:
            raise Defect(LookupError(f"{kind.__qualname__} has no decider"))
        return table[kind](record, envelope.command, envelope.context(now))

    return decide
