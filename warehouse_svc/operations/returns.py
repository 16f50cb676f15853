"""Units that returns bring back."""

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from warehouse_svc.model.commands import PostReturn
from warehouse_svc.model.records import OrderStock, StockLevel


class ReturnOperations:
    """The operation on returned units."""

    def __init__(self, writer: Writer[OrderStock]) -> None:
        self.writer = writer

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
