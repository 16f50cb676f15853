"""What the order service does about returns. They are written with their orders, under these
orders' locks.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from chassis.database import Database
from chassis.decision import unwrap
from chassis.errors import NotFound
from chassis.paging import Page
from order_svc import decisions, store
from order_svc.model import Return, ReturnCommand, ReturnFilter


class ReturnOperations:
    """The doors of returns lead here; from here to decisions and store. Nobody else is asked:
    goods and money follow by event.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def order_of(self, return_id: UUID) -> UUID:
        """The order whose lock a return is changed under. Raises NotFound RETURN_NOT_FOUND."""
        async with self.database.read() as connection:
            order_id = await store.order_of_return(connection, return_id)
        if order_id is None:
            raise _missing(return_id)
        return order_id

    async def change(self, command: ReturnCommand) -> Return:
        """Makes a return, or moves it on; a repeat answers with it as it stands."""
        [outcome] = await self.database.write(
            [command], load=store.lock_orders, decide=decisions.decide, save=store.save_orders
        )
        return next(rma for rma in unwrap(outcome).rmas if rma.id == command.return_id)

    async def get_return(self, return_id: UUID) -> Return:
        async with self.database.read() as connection:
            rma = (await store.find_returns(connection, [return_id])).get(return_id)
        if rma is None:
            raise _missing(return_id)
        return rma

    async def list_transitions(self, return_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """Raises NotFound RETURN_NOT_FOUND."""
        await self.order_of(return_id)
        after = page.after[0] if page.after else 0
        async with self.database.read() as connection:
            rows = await store.list_return_history(connection, return_id, after, page.size + 1)
        return page.cut(rows, lambda step: (step.version,))

    async def list_returns(self, wanted: ReturnFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            found = await store.list_returns(connection, wanted, page)
            return await page.fill(found, partial(store.find_returns, connection))


def _missing(return_id: UUID) -> NotFound:
    return NotFound(
        "RETURN_NOT_FOUND", f"There is no return {return_id}.", return_id=str(return_id)
    )
