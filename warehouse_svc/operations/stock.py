"""Stock levels: receipts, counts, returned units, availability and lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from chassis.values.paging import Page
from chassis.write.database import Database
from chassis.write.writer import Writer
from warehouse_svc.model.commands import AdjustStock, PostReturn, ReceiveStock
from warehouse_svc.model.filters import LevelFilter, MovementFilter
from warehouse_svc.model.records import Availability, OrderStock, Place, StockLevel
from warehouse_svc.store import stock as store


class StockOperations:
    """The operations on stock levels and on the ledger."""

    def __init__(self, database: Database, writer: Writer[OrderStock]) -> None:
        self.database, self.writer = database, writer

    async def receive_stock(self, envelope: Envelope[ReceiveStock]) -> list[StockLevel]:
        """Posts a receipt and returns its stock levels, in the order of the receipt."""
        record = unwrap((await self.writer.write([envelope]))[0])
        return [
            record.levels[envelope.command.warehouse_id, sku] for sku in envelope.command.quantities
        ]

    async def adjust_stock(self, envelope: Envelope[AdjustStock]) -> StockLevel:
        record = unwrap((await self.writer.write([envelope]))[0])
        return record.levels[envelope.command.warehouse_id, envelope.command.sku]

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

    async def post_return(self, envelope: Envelope[PostReturn]) -> StockLevel | None:
        """Posts units of one line of a return. Returns the stock level in the command's warehouse.

        It is None where another warehouse posted the units before, and this one never had the SKU.
        """
        command = envelope.command
        record = unwrap((await self.writer.write([envelope]))[0])
        [number] = command.restocked.keys() | command.damaged.keys()
        return record.levels.get(
            (command.warehouse_id, record.existing_reservations.lines[number].sku)
        )
