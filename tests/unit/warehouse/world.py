"""A warehouse in memory, for tests of its decisions: what commands do to it, and what must hold of it whatever was done. No tests here."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from chassis.decision import Outcome, unwrap
from chassis.fold import fold
from warehouse_svc.decisions import decide
from warehouse_svc.lifecycle import Bucket
from warehouse_svc.model import (
    AdjustStock,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    Holding,
    Movement,
    Picture,
    Place,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    Reservation,
    ReserveStock,
    ReturnUnits,
    ShipUnits,
    StockCommand,
    StockLevel,
    View,
    WantedLine,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TTL = timedelta(minutes=30)
BALANCES = ("available", "reserved", "committed", "damaged")
ORDER = UUID(int=1)
keys = map(str, count(1))


def basket(*wanted: tuple[str, int]) -> tuple[WantedLine, ...]:
    """Order lines, numbered from 1."""
    return tuple(WantedLine(number, sku, quantity) for number, (sku, quantity) in enumerate(wanted, 1))


def receive(warehouse_id: str, request: int | None = None, **quantities: int) -> ReceiveStock:
    """A receipt of a request of its own, or of a given one."""
    key = next(keys)
    return ReceiveStock(key, b"", UUID(int=request or int(key) + 10**9), warehouse_id=warehouse_id, quantities=quantities)


def adjust(warehouse_id: str, sku: str, delta: int, **more: Any) -> AdjustStock:
    """A count of a request of its own."""
    key = next(keys)
    return AdjustStock(key, b"", UUID(int=int(key) + 10**9), warehouse_id=warehouse_id, sku=sku, delta=delta, **more)


def reserve(*wanted: tuple[str, int], order: UUID = ORDER, attempt: int = 1, ttl: timedelta = TTL) -> ReserveStock:
    """A checkout."""
    return ReserveStock(next(keys), b"", order, attempt=attempt, lines=basket(*wanted), ttl=ttl)


def renew(order: UUID = ORDER, attempt: int = 1) -> RenewReservations:
    """A checkout's request, come again."""
    return RenewReservations(next(keys), b"", order, attempt=attempt, ttl=TTL)


def confirm(order: UUID = ORDER, attempt: int = 1, *, by_event: bool = False) -> ConfirmReservations:
    """A confirmation, called for or by event."""
    return ConfirmReservations(next(keys), b"", order, attempt=attempt, by_event=by_event)


def release(released: Mapping[int, int] | None = None, order: UUID = ORDER, attempt: int = 1) -> ReleaseReservations:
    """A release of all, or up to so many units of lines."""
    return ReleaseReservations(next(keys), b"", order, attempt=attempt, released=released or {})


def expire(order: UUID = ORDER) -> ExpireReservations:
    """The worker comes by."""
    return ExpireReservations(next(keys), b"", order)


def end(order: UUID = ORDER, attempt: int = 1, *, while_pending: bool = True) -> EndAttempt:
    """The attempt dies."""
    return EndAttempt(next(keys), b"", order, attempt=attempt, while_pending=while_pending)


def ship(warehouse_id: str, shipped: Mapping[int, int], order: UUID = ORDER, attempt: int = 1) -> ShipUnits:
    """Units are with the carrier."""
    return ShipUnits(next(keys), b"", order, attempt=attempt, warehouse_id=warehouse_id, shipped=shipped)


def take_back(warehouse_id: str, uncommitted: Mapping[int, int], order: UUID = ORDER, attempt: int = 1) -> ReturnUnits:
    """A cancelled fulfilment's units are back."""
    return ReturnUnits(next(keys), b"", order, attempt=attempt, warehouse_id=warehouse_id, uncommitted=uncommitted)


@dataclass
class World:
    """All stock, all that is held, the ledger and the facts, as the commands so far have left them."""

    now: datetime = NOON
    levels: dict[Place, StockLevel] = field(default_factory=dict)
    holdings: dict[UUID, Holding] = field(default_factory=dict)
    ledger: list[Movement] = field(default_factory=list)
    facts: list[object] = field(default_factory=list)

    def try_all(self, *commands: StockCommand) -> list[Outcome[View]]:
        """What comes of a set of commands; the world is as they leave it."""
        booked = {m.source_id for m in self.ledger if m.order_id is None}
        requests = [c.target for c in commands if isinstance(c, (ReceiveStock, AdjustStock))]
        picture = Picture(self.levels.values(), self.holdings.values(), requests, booked)
        folded = fold(picture, commands, decide, self.now)
        self.levels = dict(picture.get(UUID(int=0)).stock)
        self.holdings |= {view.holding.order_id: view.holding for view in folded.after.values() if view.holding}
        self.ledger += folded.history
        self.facts += folded.facts
        return [folded.outcomes[c.key] for c in commands]

    def do(self, *commands: StockCommand) -> View:
        """The same, for commands that must all be done; the last one's view."""
        return [unwrap(outcome) for outcome in self.try_all(*commands)][-1]

    def pass_time(self, time: timedelta) -> None:
        self.now += time

    def balances(self, warehouse_id: str, sku: str) -> tuple[int, int, int, int]:
        """available, reserved, committed, damaged"""
        level = self.levels[warehouse_id, sku]
        return level.available, level.reserved, level.committed, level.damaged

    def standing(self, order: UUID = ORDER, attempt: int = 1) -> tuple[Reservation, ...]:
        return self.holdings[order].of(attempt)

    def check(self) -> None:
        """What must hold whatever was done: balances are the ledger's sums and the reservations' units, and nothing is below zero."""
        sums: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        for row in self.ledger:
            assert row.available + row.committed + row.damaged + row.outside == 0, row
            sums[row.warehouse_id, row.sku].update({name: getattr(row, name) for name in BALANCES} | {"rows": 1})
        held: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        for r in (r for holding in self.holdings.values() for r in holding.reservations):
            assert r.status is r.status_of_units
            for line in r.lines:
                assert sum(line.units(bucket) for bucket in Bucket) == line.quantity, line
                assert min(line.units(bucket) for bucket in Bucket) >= 0, line
                assert 0 <= line.expired <= line.released, line
                held[r.warehouse_id, line.sku].update(reserved=line.reserved, committed=line.committed)
        for place, level in self.levels.items():
            assert {name: getattr(level, name) for name in BALANCES} == {name: sums[place][name] for name in BALANCES}, level
            assert (level.reserved, level.committed) == (held[place]["reserved"], held[place]["committed"]), level
            assert level.version == sums[place]["rows"], level
            assert min(level.available, level.reserved, level.committed, level.damaged, level.sellable) >= 0, level
        business_keys = Counter((m.kind, m.source_id, m.level_id, m.line_number, m.cumulative) for m in self.ledger)
        assert not [key for key, times in business_keys.items() if times > 1]
        assert len({m.id for m in self.ledger}) == len(self.ledger)


def stocked(**by_warehouse: Mapping[str, int]) -> World:
    """A world with these units: stocked(london={"tea": 5})."""
    world = World()
    world.do(*(receive(warehouse_id, **units) for warehouse_id, units in by_warehouse.items()))
    world.facts.clear()
    return world
