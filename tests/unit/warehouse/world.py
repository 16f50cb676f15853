"""A warehouse in memory, for tests of its decisions: the effects of commands, and the invariants
after any of them. No tests here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from chassis.values.decision import Decision, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.write.apply_commands import apply_commands
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.lifecycle import Bucket, MovementKind
from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    FulfillmentLine,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
    SpoiledLine,
)
from warehouse_svc.model.records import (
    Movement,
    OrderReservations,
    OrderStock,
    Place,
    PostedUnits,
    Reservation,
    StockLevel,
    WantedLine,
)
from warehouse_svc.store.workspace import StockWorkspace

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TTL = timedelta(minutes=30)
BALANCES = ("available", "reserved", "committed", "damaged")
ORDER, RETURN = UUID(int=1), UUID(int=77)
# The fields of an envelope beside its command.
PARTS = {field.name for field in fields_of(Envelope)} - {"command"}

C = TypeVar("C")
numbers = count(1)


def envelope(kind: type[C], **fields: Any) -> Envelope[C]:
    """Returns a command of this kind in an envelope with its own key. `fields` are fields of
    either.
    """
    key = str(next(numbers))
    parts: dict[str, Any] = {
        "key": key,
        "request_hash": b"",
        "target": ORDER,
        "actor": "tester",
        "cause": key,
    }
    parts |= {name: value for name, value in fields.items() if name in PARTS}
    command = kind(**{name: value for name, value in fields.items() if name not in PARTS})
    return Envelope(**parts, command=command)


def changed(old: Envelope[C], **fields: Any) -> Envelope[C]:
    """Returns the envelope with these fields of its command changed."""
    command: Any = old.command
    return old.with_command(replace(command, **fields))


def of_request(kind: type[C], request: int | None, **fields: Any) -> Envelope[C]:
    """Returns a receipt or a count: its target is the request, a new one or a stated one."""
    return envelope(kind, target=UUID(int=request or next(numbers) + 10**9), **fields)


def basket(*wanted: tuple[str, int]) -> tuple[WantedLine, ...]:
    """Returns order lines, numbered from 1."""
    return tuple(
        WantedLine(number, sku, quantity) for number, (sku, quantity) in enumerate(wanted, 1)
    )


def receive(
    warehouse_id: str,
    request: int | None = None,
    **quantities: int,
) -> Envelope[ReceiveStock]:
    """Returns a receipt of a new request, or of a stated one."""
    return of_request(ReceiveStock, request, warehouse_id=warehouse_id, quantities=quantities)


def adjust(
    warehouse_id: str, sku: str, delta: int, request: int | None = None, **more: Any
) -> Envelope[AdjustStock]:
    """Returns a count of a new request, or of a stated one."""
    place = {"warehouse_id": warehouse_id, "sku": sku}
    return of_request(AdjustStock, request, **place, delta=delta, **more)


def reserve(
    *wanted: tuple[str, int], order: UUID = ORDER, attempt: int = 1, ttl: timedelta = TTL
) -> Envelope[ReserveStock]:
    """Returns a checkout."""
    lines = basket(*wanted)
    return envelope(ReserveStock, target=order, attempt=attempt, lines=lines, ttl=ttl)


def renew(order: UUID = ORDER, attempt: int = 1) -> Envelope[RenewReservations]:
    """Returns a repeated checkout request."""
    return envelope(RenewReservations, target=order, attempt=attempt, ttl=TTL)


def confirm(
    order: UUID = ORDER, attempt: int = 1, *, by_event: bool = False
) -> Envelope[ConfirmReservations]:
    """Returns a confirmation, by call or by event."""
    return envelope(ConfirmReservations, target=order, attempt=attempt, by_event=by_event)


def release(
    released: Mapping[int, int] | None = None, order: UUID = ORDER, attempt: int = 1
) -> Envelope[ReleaseReservations]:
    """Returns a release of all units, or up to so many units of lines."""
    units = released or {}
    return envelope(ReleaseReservations, target=order, attempt=attempt, released=units)


def expire(order: UUID = ORDER) -> Envelope[ExpireReservations]:
    """Returns the expiry worker's command about the order."""
    return envelope(ExpireReservations, target=order)


def close_attempt(
    order: UUID = ORDER,
    attempt: int = 1,
    *,
    while_pending: bool = True,
) -> Envelope[CloseAttempt]:
    """Returns the close of the attempt."""
    return envelope(CloseAttempt, target=order, attempt=attempt, while_pending=while_pending)


Units = int | tuple[int, int, int]  # on a picklist; or these, those short and those spoiled


def report_picklist(
    warehouse_id: str,
    picklist: Mapping[int, Units],
    order: UUID = ORDER,
    attempt: int = 1,
    *,
    shipped: bool = False,
) -> Envelope[ApplyFulfillment]:
    """Returns fulfilment's report of a picklist, by line."""
    lines = tuple(
        FulfillmentLine(number=number, quantity=quantity, short=short, spoiled=spoiled)
        for number, units in picklist.items()
        for quantity, short, spoiled in [(units, 0, 0) if isinstance(units, int) else units]
    )
    return envelope(
        ApplyFulfillment,
        target=order,
        attempt=attempt,
        warehouse_id=warehouse_id,
        lines=lines,
        shipped=shipped,
    )


def ship(
    warehouse_id: str, picklist: Mapping[int, Units], order: UUID = ORDER, attempt: int = 1
) -> Envelope[ApplyFulfillment]:
    """Returns the report that units are with the carrier."""
    return report_picklist(warehouse_id, picklist, order, attempt, shipped=True)


def call_off(
    warehouse_id: str, order: UUID = ORDER, attempt: int = 1
) -> Envelope[ApplyFulfillment]:
    """Returns the report of a cancelled fulfilment: its picklist has no units."""
    return report_picklist(warehouse_id, {1: 0}, order, attempt)


def replace_spoiled(
    warehouse_id: str,
    spoiled: Mapping[int, int],
    order: UUID = ORDER,
    attempt: int = 1,
    short: Mapping[int, int] | None = None,
) -> Envelope[ReplaceSpoiled]:
    """Returns the request to replace units that are found damaged while packing."""
    lines = tuple(
        SpoiledLine(number, units, (short or {}).get(number, 0))
        for number, units in spoiled.items()
    )
    return envelope(
        ReplaceSpoiled,
        target=order,
        attempt=attempt,
        warehouse_id=warehouse_id,
        lines=lines,
    )


def allocate(
    remaining: Mapping[int, int],
    reservations: Sequence[Reservation],
    order: UUID = ORDER,
    attempt: int = 1,
    *,
    while_pending: bool = False,
) -> Envelope[ApplyAllocations]:
    """Returns the order's allocation of these units by line, from the reservations in their
    order.
    """
    unallocated, allocated = dict(remaining), {}
    for reservation in reservations:
        for line in reservation.lines:
            allocated[reservation.id, line.number] = units = min(
                unallocated.get(line.number, 0), line.quantity
            )
            unallocated[line.number] = unallocated.get(line.number, 0) - units
    return envelope(
        ApplyAllocations,
        target=order,
        attempt=attempt,
        allocated=allocated,
        while_pending=while_pending,
    )


def post_return(
    warehouse_id: str,
    restocked: Mapping[int, int] | None = None,
    damaged: Mapping[int, int] | None = None,
    order: UUID = ORDER,
    source: UUID = RETURN,
) -> Envelope[PostReturn]:
    """Returns the event of an inspected return."""
    return envelope(
        PostReturn,
        target=order,
        source=source,
        warehouse_id=warehouse_id,
        restocked=restocked or {},
        damaged=damaged or {},
    )


@dataclass(kw_only=True)
class World:
    """All stock levels, reservations, rows of the ledger and domain events after the commands so
    far.
    """

    now: datetime = NOON
    levels: dict[Place, StockLevel] = field(default_factory=dict)
    order_reservations: dict[UUID, OrderReservations] = field(default_factory=dict)
    ledger: list[Movement] = field(default_factory=list)
    events: list[object] = field(default_factory=list)

    def try_all(self, *commands: Envelope[Any]) -> list[Outcome[OrderStock]]:
        """Decides a set of commands, stores the result, and returns their outcomes."""
        workspace = StockWorkspace(
            self.order_reservations, OrderStock(self.levels, posted=self.posted())
        )
        applied = apply_commands(workspace, commands, self._decide, self.now)
        self.levels = dict(workspace.get(UUID(int=0)).levels)
        self.order_reservations |= {
            each.order_reservations.order_id: each.order_reservations
            for each in workspace.after.values()
            if each.order_reservations
        }
        self.ledger += applied.history
        self.events += applied.events
        return [applied.outcomes[c.key] for c in commands]

    def _decide(
        self, record: OrderStock | None, command: Envelope[Any], _: datetime
    ) -> Decision[OrderStock, Movement]:
        """Decides at the world's time, which is the same for a command in any set."""
        return decide(record, command, self.now)

    def do(self, *commands: Envelope[Any]) -> OrderStock:
        """Does the same for commands that must all succeed; returns the last one's record."""
        return [unwrap(outcome) for outcome in self.try_all(*commands)][-1]

    def posted(self) -> dict[UUID, PostedUnits]:
        """Returns the units in the ledger by source, as the store reads them."""
        units: defaultdict[UUID, Counter[tuple[UUID | None, int | None, MovementKind]]] = (
            defaultdict(Counter)
        )
        for m in self.ledger:
            units[m.source_id][m.order_id, m.line_number, m.kind] += m.quantity
        return {source: dict(of_source) for source, of_source in units.items()}

    def pass_time(self, time: timedelta) -> None:
        self.now += time

    def balances(self, warehouse_id: str, sku: str) -> tuple[int, int, int, int]:
        """Returns available, reserved, committed and damaged."""
        level = self.levels[warehouse_id, sku]
        return level.available, level.reserved, level.committed, level.damaged

    def attempt_reservations(
        self, order: UUID = ORDER, attempt: int = 1
    ) -> tuple[Reservation, ...]:
        return self.order_reservations[order].of_attempt(attempt)

    def check(self) -> None:
        """Checks the invariants: balances are the sums of the ledger and of the reservations'
        units, and none is below zero.
        """
        sums: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        for row in self.ledger:
            assert row.available + row.committed + row.damaged + row.outside == 0, row
            sums[row.warehouse_id, row.sku].update(
                {name: getattr(row, name) for name in BALANCES} | {"rows": 1}
            )
        totals: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        for r in (r for each in self.order_reservations.values() for r in each.reservations):
            for line in r.lines:
                assert sum(line.units(bucket) for bucket in Bucket) == line.quantity, line
                assert min(line.units(bucket) for bucket in Bucket) >= 0, line
                assert 0 <= line.expired <= line.released, line
                assert 0 <= line.spoiled <= line.written_off, line
                totals[r.warehouse_id, line.sku].update(
                    reserved=line.reserved, committed=line.committed
                )
        for place, level in self.levels.items():
            assert {name: getattr(level, name) for name in BALANCES} == {
                name: sums[place][name] for name in BALANCES
            }, level
            assert (level.reserved, level.committed) == (
                totals[place]["reserved"],
                totals[place]["committed"],
            ), level
            assert level.version == sums[place]["rows"], level
            assert (
                min(level.available, level.reserved, level.committed, level.damaged, level.sellable)
                >= 0
            ), level
        business_keys = Counter(
            (m.kind, m.source_id, m.level_id, m.line_number, m.cumulative) for m in self.ledger
        )
        assert not [key for key, times in business_keys.items() if times > 1]
        self.check_cumulative()
        self.check_returns()
        assert len({m.id for m in self.ledger}) == len(self.ledger)

    def check_cumulative(self) -> None:
        """Checks that each row has the number of units that its kind has moved for its source and
        line so far, its own included: none is missing, none twice.
        """
        so_far: Counter[tuple[object, ...]] = Counter()
        for row in sorted(self.ledger, key=lambda row: row.cumulative):
            if row.order_id is not None:
                so_far[row.kind, row.source_id, row.line_number] += row.quantity
                assert row.cumulative == so_far[row.kind, row.source_id, row.line_number], row

    def check_returns(self) -> None:
        """Checks that no order line has more returned than shipped units, and that the ledger
        agrees with both.
        """
        for order_id, each in self.order_reservations.items():
            for line in each.lines.values():
                rows = [
                    m for m in self.ledger if (m.order_id, m.line_number) == (order_id, line.number)
                ]
                sums = [
                    sum(m.quantity for m in rows if m.kind is kind)
                    for kind in (MovementKind.SHIP, MovementKind.RESTOCK, MovementKind.MARK_DAMAGED)
                ]
                assert [line.shipped, line.restocked, line.damaged] == sums
                assert line.restocked + line.damaged <= line.shipped


def stocked(**by_warehouse: Mapping[str, int]) -> World:
    """Returns a world with these units: stocked(london={"tea": 5})."""
    world = World()
    world.do(*(receive(warehouse_id, **units) for warehouse_id, units in by_warehouse.items()))
    world.events.clear()
    return world
