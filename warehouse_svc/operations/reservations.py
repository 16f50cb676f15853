"""Reservations of orders: made, confirmed, released, replaced, expired and listed."""

from collections.abc import Sequence
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
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX, due_for_renewal
from warehouse_svc.model.commands import (
    ExpireReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.filters import ReservationFilter
from warehouse_svc.model.records import OrderReservations, OrderStock, Reservation
from warehouse_svc.store import reservations as store

# The most bytes of a reservation in an answer, without its lines.
RESERVATION_BYTES = 512
EXPIRY_BATCH = 100  # reservations that one write can expire


class ReservationOperations:
    """The operations on reservations, for callers and for the expiry worker."""

    def __init__(self, database: Database, writer: Writer[OrderStock]) -> None:
        self.database, self.writer = database, writer

    async def reserve_stock(self, envelope: Envelope[ReserveStock]) -> OrderReservations:
        """Reserves the lines, and returns the order's reservations.

        A repeat returns the reservations of the first try. Where too little of their ttl is left,
        it extends them, or replaces them if they have expired.
        """
        [outcome] = await self.writer.write([envelope])
        order_reservations = unwrap(outcome).existing_reservations
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
        return unwrap((await self.writer.write([renewing]))[0]).existing_reservations

    async def confirm_or_release(
        self, envelopes: Sequence[Envelope[Any]]
    ) -> list[Outcome[OrderStock]]:
        """Confirms or releases reservations: those of one order all or none, each order on its own.

        Raises Failure REQUEST_ID_REUSED where the request_id was used for another request, and the
        first Deferred where all orders are deferred.
        """
        outcomes = await self.writer.write(envelopes)
        reused = [o for o in outcomes if isinstance(o, Failure) and o.reason == "REQUEST_ID_REUSED"]
        deferred = [o for o in outcomes if isinstance(o, Deferred)]
        if reused or len(deferred) == len(outcomes):
            raise (reused or deferred)[0]
        return outcomes

    async def replace_spoiled(self, envelope: Envelope[ReplaceSpoiled]) -> Reservation:
        """Posts units as damaged and commits others in their place.

        Returns the reservation: its committed units are those to pick.
        """
        command = envelope.command
        order_reservations = unwrap((await self.writer.write([envelope]))[0]).existing_reservations
        [reservation] = [
            r
            for r in order_reservations.of_attempt(command.attempt)
            if r.warehouse_id == command.warehouse_id
        ]
        return reservation

    async def check_answer(self, orders: Sequence[UUID]) -> None:
        """Raises Refused ANSWER_TOO_LARGE where the orders' reservations may not fit.

        Each order counts with its largest answer: all of its lines in WAREHOUSES_MAX warehouses.
        One order always fits.
        """
        async with self.database.read() as connection:
            lines = await store.line_bytes_of(connection, orders)
        most = (WAREHOUSES_MAX * (RESERVATION_BYTES + lines.get(order, 0)) for order in orders)
        fitting = sum(so_far <= ANSWER_BYTES_MAX for so_far in accumulate(most))
        if fitting < len(orders):
            raise too_large(
                fitting, len(orders), f"{fitting} orders at once, or with view VIEW_SUMMARY"
            )

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
        """Expires overdue reservations. Returns how many orders it changed.

        Overdue reservations are active past their expire_time. They are written in batches. Where
        the write of an order fails, the other orders are written all the same, and the first
        failure is raised at the end; the next call tries that order again.
        """
        expired, failures, last = 0, list[Failure](), None
        while True:
            async with self.database.engine.begin() as connection:
                chosen = await store.find_overdue(connection, last, EXPIRY_BATCH)
            # The rows of the reservations show which are overdue: a second try needs no common key.
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
            outcomes = await self.writer.write(envelopes)
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
