"""Reads and lists of fulfilments and their history."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from chassis.values.errors import NotFound
from chassis.values.paging import Page
from chassis.write.database import Database
from fulfillment_svc.model.filters import FulfillmentFilter
from fulfillment_svc.model.records import Fulfillment
from fulfillment_svc.store.fulfillments import find_fulfillments, list_fulfillments, list_history


class ReadOperations:
    """The reads of fulfilments."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get_fulfillment(self, id: UUID) -> Fulfillment:
        """Raises NotFound FULFILLMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            found = await find_fulfillments(connection, [id])
        if id not in found:
            raise NotFound(
                "FULFILLMENT_NOT_FOUND", f"There is no fulfilment {id}.", fulfillment_id=str(id)
            )
        return found[id]

    async def list_fulfillments(
        self, wanted: FulfillmentFilter, page: Page
    ) -> tuple[Sequence[Any], str]:
        """Returns a page of fulfilments, and the token of the next page."""
        async with self.database.read() as connection:
            found = await list_fulfillments(connection, wanted, page)
            return await page.fill(found, partial(find_fulfillments, connection))

    async def list_transitions(self, fulfillment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """Returns a page of the fulfilment's history, and the token of the next page.

        Raises NotFound FULFILLMENT_NOT_FOUND.
        """
        after = page.after[0] if page.after else 0
        await self.get_fulfillment(fulfillment_id)
        async with self.database.read() as connection:
            rows = await list_history(connection, fulfillment_id, after, page.size + 1)
        return page.cut(rows, lambda transition: (transition.version,))
