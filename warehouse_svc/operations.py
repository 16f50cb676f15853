"""The operations of the warehouse service, one method for each. It calls no peer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, NotFound
from chassis.values.paging import ANSWER_BYTES_MAX, Page, too_large
from chassis.write.database import Database
from chassis.write.writer import Writer
from warehouse_svc import store
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX, due_for_renewal
from warehouse_svc.model.commands import (
    AdjustStock,
    ExpireReservations,
    PostReturn,
    ReceiveStock,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.filters import LevelFilter, MovementFilter, ReservationFilter
from warehouse_svc.model.records import (
    Availability,
    OrderReservations,
    OrderStock,
    Place,
    Reservation,
    StockLevel,
)

# What a reservation has in an answer at most, its lines left out.
RESERVATION_BYTES = 512
EXPIRY_BATCH = 100  # reservations that one write can expire


class Operations:
    """The operations that RPCs, events and the expiry worker call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._writer = Writer(database, load=store.lock_stock, decide=decide, save=store.save_stock)

    # --- stock

    async def receive_stock(self, envelope: Envelope[ReceiveStock]) -> list[StockLevel]:
        """Posts a receipt and returns its stock levels, in the order of the receipt."""
        record = unwrap((await self.write([envelope]))[0])
        return [
            record.levels[envelope.command.warehouse_id, sku] for sku in envelope.command.quantities
        ]

    async def adjust_stock(self, envelope: Envelope[AdjustStock]) -> StockLevel:
        record = unwrap((await self.write([envelope]))[0])
        return record.levels[envelope.command.warehouse_id, envelope.command.sku]

    async def post_return(self, envelope: Envelope[PostReturn]) -> StockLevel | None:
        """Posts units of one line of a return, and returns the stock level in the command's
        warehouse. None: another warehouse posted them before, and this one never had the SKU.
        """
        command = envelope.command
        record = unwrap((await self.write([envelope]))[0])
        [number] = command.restocked.keys() | command.damaged.keys()
        return record.levels.get(
            (command.warehouse_id, _order_reservations(record).lines[number].sku)
        )

    async def check_availability(self, wanted: Mapping[str, int]) -> list[Availability]:
        """Returns the sellable units of each SKU, in the order of `wanted`."""
        async with self.database.read() as connection:
            sellable = await store.sellable(connection, wanted)
        return [Availability(sku, units, sellable.get(sku, 0)) for sku, units in wanted.items()]

    async def get_stock_level(self, place: Place) -> StockLevel:
        async with self.database.read() as connection:
            level = await store.find_level(connection, place)
        if level is None:
            text = f"{place[0]} has never had {place[1]}."
            raise NotFound("STOCK_LEVEL_NOT_FOUND", text, warehouse_id=place[0], sku=place[1])
        return level

    async def list_stock_levels(self, wanted: LevelFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await store.list_levels(connection, wanted, page),
                lambda level: (level.warehouse_id, level.sku),
            )

    async def list_stock_movements(
        self, wanted: MovementFilter, page: Page
    ) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await store.list_movements(connection, wanted, page),
                lambda movement: (movement.id,),
            )

    # --- reservations

    async def reserve_stock(self, envelope: Envelope[ReserveStock]) -> OrderReservations:
        """Reserves the lines. A repeat returns the reservations of the first try; where too little
        of their ttl is left, it extends them, or replaces them if they have expired.
        """
        [outcome] = await self.write([envelope])
        order_reservations = _order_reservations(unwrap(outcome))
        if not (isinstance(outcome, Done) and outcome.repeat):
            return order_reservations
        command = envelope.command
        reservations = order_reservations.of_attempt(command.attempt)
        async with self.database.read() as connection:
            now = await store.clock(connection)
        if not due_for_renewal(reservations, command.ttl, now):
            return order_reservations
        # Concurrent repeats that read the same expire_time renew the reservations once.
        latest = max(r.expire_time for r in reservations)
        step = f"{reservations[0].generation}:{latest.isoformat()}"
        renewal = RenewReservations(attempt=command.attempt, ttl=command.ttl)
        # The repeat may propose another order_id: the target is the order of the first try.
        renewing = replace(envelope, target=order_reservations.order_id).step(step, renewal)
        return _order_reservations(unwrap((await self.write([renewing]))[0]))

    async def move_reservations(
        self, envelopes: Sequence[Envelope[Any]]
    ) -> list[Outcome[OrderStock]]:
        """Confirms or releases for many orders: each all or none, independently of the others.

        Raises the failure of the call as a whole: its request_id was used for another request, or
        all orders are deferred.
        """
        outcomes = await self.write(envelopes)
        reused = [o for o in outcomes if isinstance(o, Failure) and o.reason == "REQUEST_ID_REUSED"]
        deferred = [o for o in outcomes if isinstance(o, Deferred)]
        if reused or len(deferred) == len(outcomes):
            raise (reused or deferred)[0]
        return outcomes

    async def check_answer(self, orders: Sequence[UUID]) -> None:
        """Raises Refused ANSWER_TOO_LARGE where the reservations of so many orders may not fit
        into an answer. Each order counts with the most that it can become: all of its lines in
        WAREHOUSES_MAX warehouses. One order always fits.
        """
        async with self.database.read() as connection:
            lines = await store.line_bytes_of(connection, orders)
        most = (WAREHOUSES_MAX * (RESERVATION_BYTES + lines.get(order, 0)) for order in orders)
        fitting = sum(so_far <= ANSWER_BYTES_MAX for so_far in accumulate(most))
        if fitting < len(orders):
            raise too_large(
                fitting, len(orders), f"{fitting} orders at once, or with view VIEW_SUMMARY"
            )

    async def replace_spoiled(self, envelope: Envelope[ReplaceSpoiled]) -> Reservation:
        """Posts units as damaged and commits others in their place. Returns the reservation: its
        committed units are those to pick.
        """
        command = envelope.command
        order_reservations = _order_reservations(unwrap((await self.write([envelope]))[0]))
        [reservation] = [
            r
            for r in order_reservations.of_attempt(command.attempt)
            if r.warehouse_id == command.warehouse_id
        ]
        return reservation

    async def get_reservation(self, id: UUID) -> Reservation:
        async with self.database.read() as connection:
            reservation = (await store.find_reservations(connection, [id])).get(id)
        if reservation is None:
            raise NotFound(
                "RESERVATION_NOT_FOUND", f"There is no reservation {id}.", reservation_id=str(id)
            )
        return reservation

    async def list_reservations(
        self, wanted: ReservationFilter, page: Page
    ) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            found = await store.list_reservations(connection, wanted, page)
            return await page.fill(found, partial(store.find_reservations, connection))

    async def expire_reservations(self) -> int:
        """Expires the reservations whose expire_time has passed, in batches. Returns how many
        orders it changed.

        Where the write of an order fails, it goes on with the others and raises the first failure
        at the end; the next call tries that order again.
        """
        expired, failures, last = 0, list[Failure](), None
        while True:
            async with self.database.engine.begin() as connection:
                chosen = await store.find_overdue(connection, last, EXPIRY_BATCH)
            # The reservations themselves show what is due, so each key is new and has no repeat.
            causes = {reservation.order_id: str(uuid7()) for reservation in chosen}
            envelopes = [
                Envelope(
                    key=f"warehouse.expiry:{cause}",
                    request_hash=b"",
                    target=order_id,
                    actor="warehouse",
                    cause=cause,
                    command=ExpireReservations(),
                )
                for order_id, cause in causes.items()
            ]
            outcomes = await self.write(envelopes)
            expired += sum(
                isinstance(outcome, Done) and not outcome.skipped for outcome in outcomes
            )
            failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]
            if len(chosen) < EXPIRY_BATCH:
                break
            last = chosen[-1]
        if failures:
            raise failures[0]
        return expired

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[OrderStock]]:
        """Writes the commands as one set. Each has an outcome of its own."""
        return await self._writer.write(envelopes)


def _order_reservations(record: OrderStock) -> OrderReservations:
    assert record.order_reservations, "the order has reservations"
    return record.order_reservations
