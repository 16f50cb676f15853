"""Orders are read, listed and watched."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from chassis.rpc.watch import Watches
from chassis.values.errors import NotFound, OutOfRange
from chassis.values.paging import Listed, Page, too_large
from chassis.write.database import Database
from order_svc.lifecycle import TERMINAL
from order_svc.model.filters import OrderFilter
from order_svc.model.records import Order, Recipient, Transition
from order_svc.store.orders import (
    count_lines_of,
    find_recipient,
    list_history,
    list_orders,
    update_times,
)
from order_svc.store.workspace import find_orders

HISTORY_BATCH = 1000


class ReadOperations:
    """The reads of orders. `watches` wakes the watches of this process after each commit."""

    def __init__(self, database: Database, heartbeat_s: float) -> None:
        self.database, self.heartbeat_s = database, heartbeat_s
        self.watches = Watches(self._update_times)
        database.on_change.append(self.watches.wake)

    async def get_orders(self, ids: Sequence[UUID]) -> list[Order]:
        """Returns all of them. Raises NotFound ORDER_NOT_FOUND, which names the missing ones."""
        async with self.database.read() as connection:
            found = await find_orders(connection, ids)
        if missing := [str(id) for id in ids if id not in found]:
            raise _missing(missing)
        return [found[id] for id in ids]

    async def batch_get_orders(
        self, ids: Sequence[UUID], page: Page, *, allow_missing: bool
    ) -> Sequence[Any]:
        """Returns all of them, encoded; with `allow_missing` those that exist. Raises NotFound as
        `get_orders` does, and Refused ANSWER_TOO_LARGE where they do not fit into an answer.
        """
        async with self.database.read() as connection:
            lines = await count_lines_of(connection, ids)
            missing = [str(id) for id in ids if id not in lines]
            if missing and not allow_missing:
                raise _missing(missing)
            found = [Listed((id,), lines[id]) for id in ids if id in lines]
            orders, more = await page.fill(found, partial(find_orders, connection))
        if more:
            raise too_large(
                len(orders), len(ids), f"{len(orders)} orders at once, or with view VIEW_SUMMARY"
            )
        return orders

    async def list_orders(self, wanted: OrderFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            found = await list_orders(connection, wanted, page)
            return await page.fill(found, partial(find_orders, connection))

    async def list_transitions(self, order_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        await self.get_orders([order_id])
        async with self.database.read() as connection:
            rows = await list_history(
                connection, order_id, page.after[0] if page.after else 0, page.size + 1
            )
        return page.cut(rows, lambda transition: (transition.version,))

    async def get_recipient(self, order_id: UUID) -> Recipient:
        async with self.database.read() as connection:
            recipient = await find_recipient(connection, order_id)
        if recipient is None:
            raise _missing([str(order_id)])
        return recipient

    async def watch_order(
        self, order_id: UUID, after: int | None
    ) -> AsyncGenerator[tuple[Order | Transition | datetime, int], None]:
        """Yields the order (where `after` is None), then each transition after that version, and
        the time as a heartbeat; each with the version. It ends once the order is closed, see
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
                    transitions = await list_history(connection, order_id, version, HISTORY_BATCH)
                for transition in transitions:
                    version, status = transition.version, transition.new
                    yield transition, version
                if len(transitions) == HISTORY_BATCH:
                    continue  # there may be more
                if status in TERMINAL and (await self.get_orders([order_id]))[0].closed:
                    return  # all its transitions are sent: an order that has ended gets no more
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), version

    async def _update_times(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await update_times(connection, ids)


def _missing(ids: Sequence[str]) -> NotFound:
    """Returns the failure that names the first ten of these orders."""
    several = ", ".join(ids[:10])
    return NotFound("ORDER_NOT_FOUND", f"There is no order {several}.", order_id=several)
