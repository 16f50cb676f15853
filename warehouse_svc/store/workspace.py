"""The reservations and stock levels that a set of commands works on: their lock and load, and their
save.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import column_arrays
from chassis.write.workspace import Workspace
from warehouse_svc.lifecycle import OPEN, Status
from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.records import (
    Movement,
    OrderReservations,
    OrderStock,
    Place,
    Reservation,
    level_id,
)
from warehouse_svc.store.reservations import lock_reservations, save_reservations
from warehouse_svc.store.stock import LEVEL, lock_levels, posted_units, save_movements

# The statuses in which a command can move the units of a reservation.
MOVABLE_STATUSES: Mapping[type, frozenset[Status]] = {
    ReserveStock: frozenset({Status.ACTIVE}),
    RenewReservations: frozenset({Status.ACTIVE}),
    ConfirmReservations: frozenset({Status.ACTIVE}),
    ReleaseReservations: frozenset({Status.ACTIVE}),
    ExpireReservations: frozenset({Status.ACTIVE}),
    CloseAttempt: OPEN,
    ApplyAllocations: OPEN,
    ApplyFulfillment: frozenset({Status.CONFIRMED}),
    ReplaceSpoiled: frozenset({Status.CONFIRMED}),
}


class StockWorkspace(Workspace[OrderStock]):
    """The reservations of the set's orders, and the stock levels that all its commands share.

    Each decision reads the stock levels as the decision before it left them. `shared` has the stock
    levels and the units in the ledger. A target without reservations has a record too.
    """

    def __init__(
        self, order_reservations: Mapping[UUID, OrderReservations], shared: OrderStock
    ) -> None:
        self._shared = shared
        super().__init__(
            {id: replace(shared, order_reservations=r) for id, r in order_reservations.items()}
        )

    def get(self, target: UUID) -> OrderStock:
        record = super().get(target)
        return replace(
            self._shared, order_reservations=record.order_reservations if record else None
        )

    def put(self, target: UUID, record: OrderStock) -> None:
        super().put(target, record)
        self._shared = record


async def lock_stock(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> StockWorkspace:
    """Returns the workspace of the commands.

    It locks the reservations of their orders, then the stock levels that they may move, both in the
    order of ids.
    """
    commands = [each.command for each in envelopes]
    requests = {
        each.target for each in envelopes if isinstance(each.command, (ReceiveStock, AdjustStock))
    }
    sources = requests | {c.source for c in commands if isinstance(c, PostReturn)}
    sources |= {
        c.shipped_after_void.source
        for c in commands
        if isinstance(c, ApplyFulfillment) and c.shipped_after_void
    }
    by_order = await lock_reservations(
        connection,
        {*repeats, *(each.target for each in envelopes)} - requests,
    )
    wanted = _places_and_skus(envelopes, by_order)
    rows = await connection.execute(lock_levels, wanted) if any(wanted.values()) else ()
    levels = {(row.warehouse_id, row.sku): LEVEL.record(row) for row in rows}
    return StockWorkspace(
        by_order, OrderStock(levels, posted=await posted_units(connection, sources))
    )


def _places_and_skus(
    envelopes: Sequence[Envelope[Any]],
    by_order: Mapping[UUID, OrderReservations],
) -> dict[str, list[Any]]:
    """Returns the ids of the stock levels that the commands may move, and the SKUs that they may
    need from any warehouse.

    A set locks all stock levels that it moves, in any order of its commands. A reservation that a
    command changes was in a status of MOVABLE_STATUSES for that command or for an earlier one, or
    an earlier one made it of SKUs that are locked in all warehouses.
    """
    places: set[Place] = set()
    skus: set[str] = set()
    expiring = {each.target for each in envelopes if isinstance(each.command, ExpireReservations)}
    for each in envelopes:
        command = each.command
        of_order = by_order[each.target].reservations if each.target in by_order else ()
        movable = MOVABLE_STATUSES.get(type(command), frozenset())
        places.update(
            (r.warehouse_id, line.sku) for r in of_order if r.status in movable for line in r.lines
        )
        match command:
            case ReceiveStock():
                places.update((command.warehouse_id, sku) for sku in command.quantities)
            case AdjustStock():
                places.add((command.warehouse_id, command.sku))
            case PostReturn():
                wanted = command.restocked.keys() | command.damaged.keys()
                places.update(
                    (command.warehouse_id, line.sku)
                    for r in of_order
                    for line in r.lines
                    if line.number in wanted
                )
            case ApplyFulfillment(shipped_after_void=shipped) if shipped:
                in_warehouse = [r for r in of_order if r.warehouse_id == command.warehouse_id]
                places.update(
                    (r.warehouse_id, line.sku)
                    for r in in_warehouse
                    for line in r.lines
                    if line.number in shipped.units
                )
            case ReserveStock():
                skus.update(line.sku for line in command.lines)
            case ConfirmReservations() | RenewReservations():
                skus.update(_replaceable_skus(command, of_order, each.target in expiring))
    return column_arrays(id=map(level_id, places), sku=skus)


def _replaceable_skus(
    command: ConfirmReservations | RenewReservations,
    of_order: Sequence[Reservation],
    expiring: bool,
) -> Iterator[str]:
    """Yields the SKUs of the attempt's reservations that the command may replace from any
    warehouse: those that have expired, and active ones that may expire before it in the set.

    A renewal replaces an active reservation past its expire_time itself. A confirmation commits
    its units, which are still reserved.
    """
    expires = expiring or isinstance(command, RenewReservations)
    statuses = {Status.EXPIRED, Status.ACTIVE} if expires else {Status.EXPIRED}
    for reservation in of_order:
        if reservation.attempt == command.attempt and reservation.status in statuses:
            yield from (line.sku for line in reservation.lines)


async def save_stock(
    connection: AsyncConnection,
    before: Mapping[UUID, OrderStock],
    after: Mapping[UUID, OrderStock],
    posted: Sequence[Movement],
) -> None:
    """Stores the reservations and the new rows of the ledger, and updates the balances."""
    old = {id: each.order_reservations for id, each in before.items() if each.order_reservations}
    new = {id: each.order_reservations for id, each in after.items() if each.order_reservations}
    await save_reservations(connection, old, new)
    if posted:
        await save_movements(connection, posted)
