"""Reads, lists and watches of shipments, their labels, reports and history."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.rpc.watch import Watches
from chassis.values.errors import NotFound, OutOfRange
from chassis.values.paging import Page
from chassis.write.database import Database
from shipping_svc.decisions.refusals import no_label_refusal
from shipping_svc.lifecycle import TERMINAL
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import Label, Shipment
from shipping_svc.store.labels import find_label
from shipping_svc.store.reports import list_tracking_events
from shipping_svc.store.shipments import find_shipments, find_versions, list_history, list_shipments


class ReadOperations:
    """The reads, lists and watches of shipments. Each commit of this process wakes the watches."""

    def __init__(self, database: Database, heartbeat_s: float) -> None:
        self.database, self.heartbeat_s = database, heartbeat_s
        self.watches = Watches(self._versions)
        database.on_change.append(self.watches.wake)

    async def get_shipment(self, shipment_id: UUID) -> Shipment:
        async with self.database.read() as connection:
            found = await find_shipments(connection, [shipment_id])
        if shipment_id not in found:
            raise NotFound(
                "SHIPMENT_NOT_FOUND",
                f"There is no shipment {shipment_id}.",
                shipment_id=str(shipment_id),
            )
        return found[shipment_id]

    async def list_shipments(self, query: ShipmentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await list_shipments(connection, query, page),
                lambda shipment: (shipment.id,),
            )

    async def get_label(self, shipment_id: UUID) -> Label:
        async with self.database.read() as connection:
            label = await find_label(connection, shipment_id)
        if label is None:
            raise no_label_refusal(await self.get_shipment(shipment_id))
        return label

    async def list_tracking_events(
        self, shipment_id: UUID, page: Page
    ) -> tuple[Sequence[Any], str]:
        """Returns a page of the carrier's reports, each with the carrier's name for `page.encode`.

        Raises NotFound SHIPMENT_NOT_FOUND.
        """
        shipment = await self.get_shipment(shipment_id)
        async with self.database.read() as connection:
            rows = await list_tracking_events(connection, shipment_id, page)
        return page.cut([(row, shipment.carrier) for row in rows], lambda row: (row[0].sequence,))

    async def list_transitions(self, shipment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """Returns a page of the shipment's history, oldest first.

        Raises NotFound SHIPMENT_NOT_FOUND.
        """
        await self.get_shipment(shipment_id)
        async with self.database.read() as connection:
            rows = await list_history(connection, shipment_id, page)
        return page.cut(rows, lambda transition: (transition.version,))

    async def watch_shipment(
        self, shipment_id: UUID, after: int
    ) -> AsyncGenerator[tuple[Shipment | datetime, int], None]:
        """Yields the shipment, if its version is above `after`, then after each change.

        It ends after a final status. After `heartbeat_s` without a change it yields the time. Each
        update has the version that was sent last. Raises OutOfRange WATCH_TOKEN_EXPIRED where
        `after` is above the shipment's version.
        """
        async with self.watches.changes(shipment_id) as changed:
            sent = after
            while True:
                changed.clear()
                shipment = await self.get_shipment(shipment_id)
                if shipment.version < sent:
                    raise OutOfRange(
                        "WATCH_TOKEN_EXPIRED",
                        "The resume_token is newer than the shipment. Watch again without it.",
                    )
                if shipment.version > sent:
                    sent = shipment.version
                    yield shipment, sent
                if shipment.status in TERMINAL:
                    return
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), sent

    async def _versions(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await find_versions(connection, ids)
