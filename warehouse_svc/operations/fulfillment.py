"""The replacement of spoiled units, which the packers of a fulfilment request."""

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from warehouse_svc.model.commands import ReplaceSpoiled
from warehouse_svc.model.records import OrderStock, Reservation


class FulfillmentOperations:
    """The operation on committed units."""

    def __init__(self, writer: Writer[OrderStock]) -> None:
        self.writer = writer

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
