"""The faults of a run, with their targets, times and lengths. Pure: the same seed gives the same
plan.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

Card = TypeVar("Card")

SERVICES: Final = ("order", "warehouse", "payment", "fulfillment", "shipping")
SERVERS: Final = ("nats", "postgres")
STREAMS: Final = {
    "order": "ORDERS",
    "warehouse": "WAREHOUSE",
    "payment": "PAYMENTS",
    "fulfillment": "FULFILLMENTS",
    "shipping": "SHIPMENTS",
}
FIRST_S: Final = 3.0  # the time without faults at the start, in which orders begin
EVERY_S: Final = (1.5, 4.0)  # the time from one fault to the next


class Kind(StrEnum):
    """The faults of processes, of connections between two of them, and of the broker's data."""

    KILL = "kill"  # SIGKILL; started again
    FREEZE = "freeze"  # SIGSTOP; SIGCONT
    RESTART = "restart"  # SIGTERM, and started again
    CUT = "cut"  # every connection is reset, in the middle of a transfer
    ROB = "rob"  # requests arrive, answers are lost with the connection
    DELAY = "delay"
    HOLD = "hold"  # no bytes arrive; later all of them do
    STRAND = "strand"  # the present connections are silent for ever, and stay open
    WIPE = "wipe"  # the broker has lost its whole store
    ROLL_BACK = "roll_back"  # the broker has an older copy of its store
    DELETE_STREAM = "delete_stream"
    DELETE_CONSUMER = "delete_consumer"  # all its events come again
    SHUFFLE = "shuffle"  # events are published again, in any order
    STEAL = "steal"  # a consumer's events are taken, and given back later in any order


# The targets of each kind, and its length in seconds.
OF_PROCESSES: Final = (Kind.KILL, Kind.FREEZE, Kind.RESTART)
OF_CONNECTIONS: Final = (Kind.CUT, Kind.ROB, Kind.DELAY, Kind.HOLD, Kind.STRAND)
OF_STREAMS: Final = (Kind.DELETE_STREAM, Kind.DELETE_CONSUMER, Kind.SHUFFLE, Kind.STEAL)
LASTS_S: Final[Mapping[Kind, tuple[float, float]]] = {
    Kind.KILL: (0.1, 3.0),
    Kind.FREEZE: (0.5, 8.0),
    Kind.RESTART: (0.0, 1.0),
    Kind.CUT: (0.0, 0.0),
    Kind.ROB: (0.5, 4.0),
    Kind.DELAY: (2.0, 8.0),
    Kind.HOLD: (0.5, 6.0),
    Kind.STRAND: (0.0, 0.0),
    Kind.WIPE: (0.1, 2.0),
    Kind.ROLL_BACK: (2.0, 6.0),
    Kind.DELETE_STREAM: (0.0, 0.0),
    Kind.DELETE_CONSUMER: (0.0, 0.0),
    Kind.SHUFFLE: (0.0, 0.0),
    Kind.STEAL: (2.0, 8.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault: `target` is a service, a server, a connection ("payment>order", "order>nats") or a
    stream; `at_s` counts from the load's start.
    """

    number: int
    at_s: float
    lasts_s: float
    kind: Kind
    target: str

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.kind} {self.target}{lasts}"


def faults(
    seed: int, duration_s: float, connections: Sequence[str], kinds: Sequence[Kind] = tuple(Kind)
) -> list[Fault]:
    """Returns the faults of a run. Every kind, and every target of a kind, has the same count,
    within one.
    """
    chance = random.Random(f"faults of {seed}")
    what = _endless(chance, kinds)
    planned: list[Fault] = []
    targets = {kind: _endless(chance, _targets(kind, connections)) for kind in kinds}
    at_s = FIRST_S
    while at_s < duration_s:
        kind = next(what)
        lasts_s = (
            min(chance.uniform(*LASTS_S[kind]), max(0.1, duration_s - at_s))
            if LASTS_S[kind][1]
            else 0.0
        )
        planned.append(
            Fault(
                number=len(planned) + 1,
                at_s=round(at_s, 2),
                lasts_s=round(lasts_s, 2),
                kind=kind,
                target=next(targets[kind]),
            )
        )
        at_s += chance.uniform(*EVERY_S)
    return planned


def _targets(kind: Kind, connections: Sequence[str]) -> Sequence[str]:
    if kind in OF_PROCESSES:
        return (*SERVICES, *SERVERS)
    if kind in OF_CONNECTIONS:
        return connections
    return tuple(STREAMS.values()) if kind in OF_STREAMS else ("nats",)


def _endless(chance: random.Random, cards: Sequence[Card]) -> Iterator[Card]:
    """Returns all cards in a random order, repeatedly."""
    while True:
        yield from chance.sample(cards, len(cards))
