"""What the warehouse service does: one method for each thing. It asks nobody."""

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
from warehouse_svc.model import (
    AdjustStock,
    Availability,
    BookReturn,
    ExpireReservations,
    Holding,
    LevelFilter,
    MovementFilter,
    Place,
    ReceiveStock,
    RenewReservations,
    ReplaceSpoiled,
    Reservation,
    ReservationFilter,
    ReserveStock,
    StockLevel,
    View,
)

# What a reservation has in an answer at most, its lines left out.
RESERVATION_BYTES = 512
EXPIRY_BATCH = 100  # reservations that are looked at in one write


class Operations:
    """The warehouse's doors lead here; from here to its decisions and its store."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._writer = Writer(database, load=store.lock_stock, decide=decide, save=store.save_stock)

    # --- stock

    async def receive_stock(self, envelope: Envelope[ReceiveStock]) -> list[StockLevel]:
        """Books what has arrived, and answers with its levels, in the order of the receipt."""
        view = unwrap((await self.write([envelope]))[0])
        return [
            view.stock[envelope.command.warehouse_id, sku] for sku in envelope.command.quantities
        ]

    async def adjust_stock(self, envelope: Envelope[AdjustStock]) -> StockLevel:
        view = unwrap((await self.write([envelope]))[0])
        return view.stock[envelope.command.warehouse_id, envelope.command.sku]

    async def book_return(self, envelope: Envelope[BookReturn]) -> StockLevel | None:
        """Books units of one line of a return, and answers with the level where they were to go.
        None: they were booked in another warehouse before, and this one has never had any.
        """
        command = envelope.command
        view = unwrap((await self.write([envelope]))[0])
        [number] = command.restocked.keys() | command.damaged.keys()
        return view.stock.get((command.warehouse_id, _holding(view).lines[number].sku))

    async def check_availability(self, asked: Mapping[str, int]) -> list[Availability]:
        """Each SKU, in the order asked: what a checkout could get just now."""
        async with self.database.read() as connection:
            sellable = await store.sellable(connection, asked)
        return [Availability(sku, units, sellable.get(sku, 0)) for sku, units in asked.items()]

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

    async def reserve_stock(self, envelope: Envelope[ReserveStock]) -> Holding:
        """Sets the lines aside. A repeat is answered with what the first try holds: whoever asks
        so late has its time before him too, and what has expired is made anew.
        """
        [outcome] = await self.write([envelope])
        holding = _holding(unwrap(outcome))
        if not (isinstance(outcome, Done) and outcome.repeat):
            return holding
        command = envelope.command
        standing = holding.of(command.attempt)
        async with self.database.read() as connection:
            now = await store.clock(connection)
        if not due_for_renewal(standing, command.ttl, now):
            return holding
        # Rivals that have seen the same end of its time renew it once.
        latest = max(r.expire_time for r in standing)
        step = f"{standing[0].generation}:{latest.isoformat()}"
        renewal = RenewReservations(attempt=command.attempt, ttl=command.ttl)
        # The repeat may propose another order_id: the target is the order of the first try.
        renewing = replace(envelope, target=holding.order_id).step(step, renewal)
        return _holding(unwrap((await self.write([renewing]))[0]))

    async def move_reservations(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[View]]:
        """Confirms or releases for many orders: each all or none, whatever becomes of the others.

        Raises what concerns the call as a whole: its request_id was used before for something else,
        or nothing can be done just now.
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
        """Books units as damaged and commits others in their place; the reservation then says
        what there is to pick.
        """
        command = envelope.command
        holding = _holding(unwrap((await self.write([envelope]))[0]))
        [reservation] = [
            r for r in holding.of(command.attempt) if r.warehouse_id == command.warehouse_id
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
        """Takes back all that is reserved past its time, batch by batch; answers how many orders
        had such.

        An order whose turn fails keeps none behind it waiting: what came between is raised at the
        end, and its next turn is the next call.
        """
        expired, failures, last = 0, list[Failure](), None
        while True:
            async with self.database.engine.begin() as connection:
                chosen = await store.lapsed(connection, last, EXPIRY_BATCH)
            # The reservations say what is past its time, so each key is new and has no repeat.
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

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[View]]:
        """Writes the commands over one picture of stock. Each has an outcome of its own."""
        return await self._writer.write(envelopes)


def _holding(view: View) -> Holding:
    assert view.holding, "a reservation leaves something held"
    return view.holding
