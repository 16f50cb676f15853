"""Orders: placed, paid, cancelled, tried again, expired; events of other services; lists and
watches.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.rpc.watch import Watches
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Exists, Failure, NotFound, OutOfRange
from chassis.values.paging import Listed, Page, too_large
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc.decisions.cancelling import check_retry
from order_svc.decisions.deciders import decide
from order_svc.decisions.paying import accepts
from order_svc.decisions.placing import PAYMENT_WINDOW, check
from order_svc.lifecycle import TERMINAL, Reason, Status
from order_svc.model.checkout import Checkout
from order_svc.model.commands import (
    ApplyReservation,
    CommitPending,
    Committed,
    ConfirmPayment,
    ExpireOrder,
    FailPayment,
    PlaceOrder,
    Request,
    RetryOrder,
    Unavailable,
)
from order_svc.model.filters import OrderFilter
from order_svc.model.records import Allocations, Order, Recipient, Transition
from order_svc.operations.releasing import StockReleaser
from order_svc.peers import Warehouse
from order_svc.store import orders as store

# The reservation outlives the order's 30 minutes by a grace, so that the order decides first.
# Reserved again by a repeat it does so too.
RESERVATION_TTL = PAYMENT_WINDOW + timedelta(minutes=5)
HISTORY_BATCH = 1000
EXPIRY_BATCH = 100
CONFIRMATION_LABELS = {Committed: "confirmed", CommitPending: "owed", Unavailable: "refused"}


class Operations:
    """The order service's doors lead here; from here to its peers, its decisions and its store."""

    def __init__(
        self, database: Database, warehouse: Warehouse, *, heartbeat_s: float = 15.0
    ) -> None:
        self.database, self.warehouse, self.heartbeat_s = database, warehouse, heartbeat_s
        self.writer = Writer(
            database, load=store.lock_orders, decide=decide, save=store.save_orders
        )
        self.watches = Watches(self._update_times)
        self.stock_releaser = StockReleaser(warehouse)
        self._confirmed = telemetry.counter(
            "order_stock_confirmations_total",
            "Orders whose stock was confirmed, whose commit is pending, or was refused",
            "answer",
        )
        self._commit_pending = telemetry.reading(
            "orders_stock_owed", "Orders that are paid, and whose stock is not confirmed yet"
        )
        self._expired = telemetry.counter(
            "orders_expired_total", "Orders that were not paid in time"
        )

    async def create_order(self, envelope: Envelope[PlaceOrder]) -> Order:
        """Reserves the checkout's stock, then stores the order.

        The envelope's target is the id of the request. The order gets the id that the warehouse
        returns, so a repeat goes on where an earlier try has stopped.
        """
        command, request_id = envelope.command, envelope.target
        checkout = command.checkout
        check(checkout)
        async with self.database.read() as connection:
            order_id = await store.order_of_checkout(connection, command.checkout_key)
        if not order_id:
            await self._check_reference(checkout, None)
            wanted = [
                (number, line.sku, line.quantity) for number, line in enumerate(checkout.lines, 1)
            ]
            order_id, allocations = await self.warehouse.reserve(
                request_id, uuid7(), 1, wanted, RESERVATION_TTL
            )
            crash_points.point("order.reserved")
            command = replace(command, allocations=allocations)
        [outcome] = await self.write([replace(envelope, target=order_id, command=command)])
        if isinstance(outcome, Failure):
            try:
                # a rival has placed its order meanwhile
                await self._check_reference(checkout, order_id)
            except Exists:
                await self.stock_releaser.release([(order_id, 1)])
                raise
        return unwrap(outcome)

    async def _check_reference(self, of: Checkout | Order, own: UUID | None) -> None:
        """Raises Exists EXTERNAL_REFERENCE_TAKEN where the order is to have its external
        reference alone, and another one holds it.
        """
        if not of.unique_external_reference or of.external_reference is None:
            return
        async with self.database.read() as connection:
            holder = await store.holder_of_reference(
                connection, of.customer_id, of.external_reference
            )
        if holder not in (None, own):
            text = (
                f"Order {holder} has the external_reference {of.external_reference!r}, and is to"
                " have it alone."
            )
            raise Exists("EXTERNAL_REFERENCE_TAKEN", text, order_id=str(holder))

    async def confirm_payments(
        self,
        envelopes: Sequence[Envelope[ConfirmPayment]],
    ) -> Sequence[Outcome[Order]]:
        """Commits the stock of all orders that wait for these payments, in one call, and
        confirms them. A payment that the write refuses commits no stock.
        """
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            orders = await store.find_orders(connection, [each.target for each in envelopes])
        waiting = {
            (each.target, each.command.attempt)
            for each, refusal in zip(envelopes, refusals, strict=True)
            if refusal is None
            and (order := orders.get(each.target))
            and order.status is Status.PENDING
            and order.attempt == each.command.attempt
            and accepts(order, each.command.captured)
        }
        answers = await self.warehouse.confirm(uuid7(), sorted(waiting)) if waiting else {}
        crash_points.point("order.committed")
        asked = [
            each.with_command(
                replace(each.command, stock=answers.get(each.target, CommitPending()))
            )
            for each in envelopes
        ]
        outcomes = await self.write(asked)
        for each, outcome in zip(asked, outcomes, strict=True):
            if (
                (each.target, each.command.attempt) in waiting
                and isinstance(outcome, Done)
                and not outcome.repeat
            ):
                self._confirmed.labels(CONFIRMATION_LABELS[type(each.command.stock)]).inc()
        return outcomes

    async def fail_payments(
        self,
        envelopes: Sequence[Envelope[FailPayment]],
    ) -> Sequence[Outcome[Order]]:
        """Ends the orders that are not paid, and releases their stock."""
        outcomes = await self.write(envelopes)
        await self.release(outcomes)
        return outcomes

    async def apply_reservations(
        self,
        envelopes: Sequence[Envelope[ApplyReservation]],
    ) -> Sequence[Outcome[Any]]:
        """Writes what the warehouse reports of reservations.

        The end of a reservation that has no order is skipped.
        """
        known = await self._found([each.target for each in envelopes])
        meant = [
            each
            for each in envelopes
            if each.target in known or each.command.allocations or each.command.refused
        ]
        outcomes: dict[str, Outcome[Any]] = dict(
            zip((each.key for each in meant), await self.write(meant), strict=True)
        )
        for each in meant:
            outcome = outcomes[each.key]
            if (
                each.command.refused
                and isinstance(outcome, Done)
                and not outcome.repeat
                and outcome.record.reason == Reason.STOCK_UNAVAILABLE
            ):
                self._confirmed.labels(CONFIRMATION_LABELS[Unavailable]).inc()
        return [outcomes.get(each.key, Done(None)) for each in envelopes]

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Order]]:
        """Writes the commands, and wakes the watches of the orders."""
        outcomes = await self.writer.write(envelopes)
        self.watches.wake()
        return outcomes

    async def cancel(self, envelope: Envelope[Request]) -> Order:
        """Decides first; then gives up the stock of an order that has ended by it. What that
        cannot reach fails nothing.
        """
        [outcome] = await self.write([envelope])
        crash_points.point("order.cancelled")
        await self.release([outcome])
        return unwrap(outcome)

    async def retry_order(self, envelope: Envelope[RetryOrder]) -> Order:
        """Reserves a failed order's stock anew, then makes it pending again. Every try of the same
        attempt meets the same reservation.

        What was done before reserves nothing: the order may have failed once more since, and this
        is not who tries it again.
        """
        async with self.database.read() as connection:
            repeat = await self.database.was_done(connection, envelope.key)
        [order] = await self.get_orders([envelope.target])
        if order.status is Status.FAILED and not repeat:
            check_retry(order, envelope.command)
            await self._check_reference(order, order.id)
            attempt = order.attempt + 1
            allocations = await self._reserve_again(order, attempt)
            retry = replace(envelope.command, attempt=attempt, allocations=allocations)
            envelope = envelope.with_command(retry)
        [outcome] = await self.write([envelope])
        if isinstance(outcome, Failure):
            await self._check_reference(order, order.id)
        return unwrap(outcome)

    async def _reserve_again(self, order: Order, attempt: int) -> Allocations:
        wanted = [(line.number, line.sku, line.remaining) for line in order.lines if line.remaining]
        request_id = uuid5(order.id, f"retry:{attempt}")
        _, allocations = await self.warehouse.reserve(
            request_id, order.id, attempt, wanted, RESERVATION_TTL
        )
        crash_points.point("order.reserved")
        return allocations

    async def expire_orders(self) -> int:
        """Ends the orders that were not paid in time, batch by batch; replicas share them. Returns
        how many were ended here.

        Who is chosen may be paid, or ended by another replica, before it is written: that is
        decided then, under its lock. An order whose turn fails keeps none behind it waiting: what
        came between is raised at the end, and its next turn is the next call.
        """
        expired, failures, last = 0, list[Failure](), None
        while True:
            async with self.database.engine.begin() as connection:
                chosen = await store.find_expired(connection, last, EXPIRY_BATCH)
            outcomes = await self.write([_expiry(id) for _, id in chosen])
            ended = [o for o in outcomes if isinstance(o, Done) and not o.skipped]
            await self.release(ended)
            self._expired.inc(len(ended))
            expired += len(ended)
            failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]
            if len(chosen) < EXPIRY_BATCH:
                break
            last = chosen[-1]
        if failures:
            raise failures[0]
        return expired

    async def count_commit_pending(self) -> None:
        """Sets the gauge of the orders whose stock commit is pending."""
        with telemetry.reading_of(self._commit_pending):
            async with self.database.read() as connection:
                count = await store.count_commit_pending_orders(connection)
        self._commit_pending.set(count)

    async def release(self, outcomes: Sequence[Outcome[Order]]) -> None:
        """Gives up the stock of the orders that have just ended."""
        made = [o.record for o in outcomes if isinstance(o, Done) and not (o.repeat or o.skipped)]
        ended = [order for order in made if order.status is Status.CANCELLED]
        await self.stock_releaser.release([(order.id, order.attempt) for order in ended])

    async def get_orders(self, ids: Sequence[UUID]) -> list[Order]:
        """All of them or none. Raises NotFound ORDER_NOT_FOUND that names those that there are
        not.
        """
        found = await self._found(ids)
        if missing := [str(id) for id in ids if id not in found]:
            raise _missing(missing)
        return [found[id] for id in ids]

    async def batch_get_orders(
        self, ids: Sequence[UUID], page: Page, *, allow_missing: bool
    ) -> Sequence[Any]:
        """All of them, encoded, or none; with `allow_missing` those that there are. Raises
        NotFound as `get_orders` does, and Refused where an answer does not take them all.
        """
        async with self.database.read() as connection:
            lines = await store.count_lines_of(connection, ids)
            missing = [str(id) for id in ids if id not in lines]
            if missing and not allow_missing:
                raise _missing(missing)
            found = [Listed((id,), lines[id]) for id in ids if id in lines]
            orders, more = await page.fill(found, partial(store.find_orders, connection))
        if more:
            raise too_large(
                len(orders), len(ids), f"{len(orders)} orders at once, or with view VIEW_SUMMARY"
            )
        return orders

    async def list_orders(self, wanted: OrderFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            found = await store.list_orders(connection, wanted, page)
            return await page.fill(found, partial(store.find_orders, connection))

    async def list_transitions(self, order_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        await self.get_orders([order_id])
        async with self.database.read() as connection:
            rows = await store.list_history(
                connection, order_id, page.after[0] if page.after else 0, page.size + 1
            )
        return page.cut(rows, lambda step: (step.version,))

    async def get_recipient(self, order_id: UUID) -> Recipient:
        async with self.database.read() as connection:
            recipient = await store.find_recipient(connection, order_id)
        if recipient is None:
            raise NotFound(
                "ORDER_NOT_FOUND", f"There is no order {order_id}.", order_id=str(order_id)
            )
        return recipient

    async def watch_order(
        self, order_id: UUID, after: int | None
    ) -> AsyncGenerator[tuple[Order | Transition | datetime, int], None]:
        """The order (where `after` is None), then each step after that version; the time when
        nothing happens. Each with the version. It ends once the order is closed, see
        order_svc.lifecycle.closed.
        """
        async with self.watches.changes(order_id) as changed:
            [order] = await self.get_orders([order_id])
            if after is None:
                yield order, order.version
            elif after > order.version:
                raise OutOfRange(
                    "WATCH_TOKEN_EXPIRED",
                    "The resume_token is not of this order's life. Watch again without it.",
                )
            version, status = order.version if after is None else after, order.status
            while True:
                changed.clear()
                async with self.database.read() as connection:
                    steps = await store.list_history(connection, order_id, version, HISTORY_BATCH)
                for step in steps:
                    version, status = step.version, step.new
                    yield step, version
                if len(steps) == HISTORY_BATCH:
                    continue  # there may be more
                if status in TERMINAL and (await self.get_orders([order_id]))[0].closed:
                    return  # all its steps are sent: an order that has ended gets no more
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), version

    async def _found(self, ids: Collection[UUID]) -> dict[UUID, Order]:
        async with self.database.read() as connection:
            return await store.find_orders(connection, ids)

    async def _update_times(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await store.update_times(connection, ids)


def _expiry(order_id: UUID) -> Envelope[ExpireOrder]:
    """The key is new each time: the order itself shows whether its time is over."""
    key = f"order.expiry:{uuid7()}"
    return Envelope(
        key=key,
        request_hash=b"",
        target=order_id,
        actor="order",
        cause=key,
        command=ExpireOrder(),
    )


def _missing(ids: Sequence[str]) -> NotFound:
    """There are no such orders; the first ten are named."""
    several = ", ".join(ids[:10])
    return NotFound("ORDER_NOT_FOUND", f"There is no order {several}.", order_id=several)
