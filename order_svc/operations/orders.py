"""What the order service does: one method for each thing. A peer is asked before the write, for the whole set at once."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from chassis import crash
from chassis.database import Database
from chassis.decision import Outcome, unwrap
from chassis.errors import NotFound, TooOld
from chassis.idempotency import Keyed
from chassis.paging import Page
from chassis.watch import Watches
from order_svc import decisions, store
from order_svc.lifecycle import Status
from order_svc.model import Checkout, ConfirmPayment, Order, OrderCommand, OrderFilter, Owed, PlaceOrder, Recipient, Transition
from order_svc.peers import Warehouse

# The reservation outlives the order's 30 minutes by a grace, so that the order decides first.
RESERVATION_TTL = decisions.PAYMENT_WINDOW + timedelta(minutes=5)
HISTORY_BATCH = 1000


class Operations:
    """The order service's doors lead here; from here to its peers, its decisions and its store."""

    def __init__(self, database: Database, warehouse: Warehouse, *, heartbeat_s: float = 15.0) -> None:
        self.database, self.warehouse, self.heartbeat_s = database, warehouse, heartbeat_s
        self.watches = Watches(self._versions)

    async def create_order(self, of: Keyed, request_id: UUID, checkout: Checkout) -> Order:
        """Reserves the checkout's stock, then stores the order. A repeat goes on where a try that crashed halfway has stopped."""
        decisions.check(checkout)
        async with self.database.read() as connection:
            known = await store.order_of_checkout(connection, of.key)
        command = PlaceOrder(of.key, of.digest, known or uuid7(), "order", str(request_id), checkout=checkout, allocations={})
        if not known:
            order_id, allocations = await self.warehouse.reserve(request_id, command.target, checkout, RESERVATION_TTL)
            crash.point("order.reserved")
            command = replace(command, target=order_id, allocations=allocations)
        [outcome] = await self._write([command])
        return unwrap(outcome)

    async def confirm_payments(self, commands: Sequence[ConfirmPayment]) -> Sequence[Outcome[Order]]:
        """Commits the stock of all orders that wait for these payments, in one call, and confirms them."""
        orders = await self._found([c.target for c in commands])
        waiting = {
            (c.target, c.attempt)
            for c in commands
            if (order := orders.get(c.target)) and order.status is Status.PENDING and order.attempt == c.attempt
        }
        answers = await self.warehouse.confirm(uuid7(), sorted(waiting)) if waiting else {}
        crash.point("order.committed")
        return await self._write([replace(c, stock=answers.get(c.target, Owed())) for c in commands])

    async def note(self, commands: Sequence[OrderCommand]) -> Sequence[Outcome[Order]]:
        """What the order is told and needs nobody's answer for."""
        return await self._write(commands)

    async def get_orders(self, ids: Sequence[UUID]) -> list[Order]:
        """All of them or none. Raises NotFound ORDER_NOT_FOUND that names those that there are not."""
        found = await self._found(ids)
        if missing := [str(id) for id in ids if id not in found]:
            raise NotFound("ORDER_NOT_FOUND", f"There is no order {', '.join(missing[:10])}.", order_id=", ".join(missing[:10]))
        return [found[id] for id in ids]

    async def list_orders(self, wanted: OrderFilter, page: Page) -> tuple[Sequence[Order], str]:
        async with self.database.read() as connection:
            return page.cut(await store.list_orders(connection, wanted, page), lambda order: (order.id,))

    async def list_transitions(self, order_id: UUID, page: Page) -> tuple[Sequence[Transition], str]:
        await self.get_orders([order_id])
        async with self.database.read() as connection:
            rows = await store.list_history(connection, order_id, page.after[0] if page.after else 0, page.size + 1)
        return page.cut(rows, lambda step: (step.version,))

    async def get_recipient(self, order_id: UUID) -> Recipient:
        async with self.database.read() as connection:
            recipient = await store.find_recipient(connection, order_id)
        if recipient is None:
            raise NotFound("ORDER_NOT_FOUND", f"There is no order {order_id}.", order_id=str(order_id))
        return recipient

    async def watch_order(self, order_id: UUID, after: int | None) -> AsyncGenerator[tuple[Order | Transition | datetime, int], None]:
        """The order (where `after` is None), then each step after that version; the time when nothing happens. Each with the version."""
        async with self.watches.changes(order_id) as changed:
            [order] = await self.get_orders([order_id])
            if after is None:
                yield order, order.version
            elif after > order.version:
                raise TooOld("WATCH_TOKEN_EXPIRED", "The resume_token is not of this order's life. Watch again without it.")
            version = order.version if after is None else after
            while True:
                changed.clear()
                async with self.database.read() as connection:
                    steps = await store.list_history(connection, order_id, version, HISTORY_BATCH)
                for step in steps:
                    version = step.version
                    yield step, version
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), version

    async def _found(self, ids: Collection[UUID]) -> dict[UUID, Order]:
        async with self.database.read() as connection:
            return await store.find_orders(connection, ids)

    async def _versions(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await store.versions(connection, ids)

    async def _write(self, commands: Sequence[OrderCommand]) -> list[Outcome[Order]]:
        outcomes = await self.database.write(commands, load=store.lock_orders, decide=decisions.decide, save=store.save_orders)
        self.watches.wake()
        return outcomes
