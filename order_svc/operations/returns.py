"""Returns of orders. They are written with their orders, under these orders' locks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from chassis.values.paging import Page
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc.model.commands import CreateReturn, RefundWithoutGoods, ReturnRequest
from order_svc.model.filters import ReturnFilter
from order_svc.model.records import Order
from order_svc.model.returns import Return
from order_svc.store.returns import (
    find_returns,
    list_return_history,
    list_returns,
    order_of_return,
)


class ReturnOperations:
    """The operations of ReturnService. They call no peer: goods and money follow by event."""

    def __init__(self, database: Database, writer: Writer[Order]) -> None:
        self.database, self._writer = database, writer

    async def create(self, envelope: Envelope[CreateReturn | RefundWithoutGoods]) -> Return:
        """Creates a return of the order that is the envelope's target."""
        return await self._write(envelope)

    async def change(self, envelope: Envelope[ReturnRequest]) -> Return:
        """Changes a return that exists. Raises NotFound RETURN_NOT_FOUND."""
        order_id = await self._order_of(envelope.command.return_id)
        return await self._write(replace(envelope, target=order_id))

    async def get_return(self, return_id: UUID) -> Return:
        async with self.database.read() as connection:
            order_return = (await find_returns(connection, [return_id])).get(return_id)
        if order_return is None:
            raise _missing(return_id)
        return order_return

    async def list_transitions(self, return_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """Raises NotFound RETURN_NOT_FOUND."""
        await self._order_of(return_id)
        after = page.after[0] if page.after else 0
        async with self.database.read() as connection:
            rows = await list_return_history(connection, return_id, after, page.size + 1)
        return page.cut(rows, lambda transition: (transition.version,))

    async def list_returns(self, wanted: ReturnFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            found = await list_returns(connection, wanted, page)
            return await page.fill(found, partial(find_returns, connection))

    async def _write(self, envelope: Envelope[ReturnRequest]) -> Return:
        """Writes the command under its order's lock. A repeat gets the return as it is now."""
        [outcome] = await self._writer.write([envelope])
        return next(
            order_return
            for order_return in unwrap(outcome).returns
            if order_return.id == envelope.command.return_id
        )

    async def _order_of(self, return_id: UUID) -> UUID:
        """The order of the return, which never changes. Raises NotFound RETURN_NOT_FOUND."""
        async with self.database.read() as connection:
            order_id = await order_of_return(connection, return_id)
        if order_id is None:
            raise _missing(return_id)
        return order_id


def _missing(return_id: UUID) -> NotFound:
    return NotFound(
        "RETURN_NOT_FOUND", f"There is no return {return_id}.", return_id=str(return_id)
    )
