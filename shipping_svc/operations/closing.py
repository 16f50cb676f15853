"""Closed orders and cancelled fulfilments, and the closing of their shipments."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from chassis.values import crash_points
from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc.lifecycle import Reason
from shipping_svc.model.commands import CloseFulfillment, CloseOrder, CloseShipment
from shipping_svc.model.records import ClosedFulfillment, ClosedOrder, Shipment
from shipping_svc.operations.recalls import RecallOperations
from shipping_svc.operations.writing import write_by_key
from shipping_svc.store.shipments import find_fulfillments, find_open_shipments


class ClosingOperations:
    """The closing of orders and of fulfilments, by events."""

    def __init__(
        self,
        database: Database,
        writer: Writer[Shipment],
        order_writer: Writer[ClosedOrder],
        fulfillment_writer: Writer[ClosedFulfillment],
        recalls: RecallOperations,
    ) -> None:
        self.database, self.writer, self.recalls = database, writer, recalls
        self._order_writer, self._fulfillment_writer = order_writer, fulfillment_writer

    async def close_orders(
        self,
        envelopes: Sequence[Envelope[CloseOrder]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these orders are closed, and recalls their shipments.

        This operation reads shipments after it has committed the closed order, and
        LabelOperations.buy reads closed orders after the shipment is committed. So of a closing and
        a purchase at the same time at least one reads the other's row. A label that the carrier
        sells at that time is stored before the recall, or recalled because the shipment has failed.
        """
        stored = await self._order_writer.write(envelopes)
        crash_points.point("shipping.order_closed")
        async with self.database.read() as connection:
            found = await find_open_shipments(
                connection, order_ids={each.target for each in envelopes}
            )
        closings = [
            [
                _close_shipment(each, shipment.id, Reason.ORDER_CLOSED)
                for shipment in found
                if shipment.order_id == each.target and shipment.attempt <= each.command.attempt
            ]
            for each in envelopes
        ]
        return await self._close_shipments(stored, closings)

    async def close_fulfillments(
        self,
        envelopes: Sequence[Envelope[CloseFulfillment]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these fulfilments are cancelled, as `close_orders` does for orders.

        A label that the carrier sells at the same time is recalled before its parcels leave.
        """
        async with self.database.read() as connection:
            versions = await find_fulfillments(connection, {each.target for each in envelopes})
        stored = await self._fulfillment_writer.write(
            [
                each.with_command(
                    replace(each.command, stored_version=versions.get(each.target, 0))
                )
                for each in envelopes
            ]
        )
        async with self.database.read() as connection:
            found = await find_open_shipments(
                connection, fulfillment_ids={each.target for each in envelopes}
            )
        closings = [
            [
                _close_shipment(each, shipment.id, Reason.FULFILLMENT_CANCELLED)
                for shipment in found
                if shipment.fulfillment_id == each.target
            ]
            for each in envelopes
        ]
        return await self._close_shipments(stored, closings)

    async def _close_shipments(
        self,
        stored: Sequence[Outcome[Any]],
        closings: Sequence[Sequence[Envelope[CloseShipment]]],
    ) -> Sequence[Outcome[Any]]:
        """Closes the shipments of each order or fulfilment that was stored, now or before.

        A refused command closes none. Where a shipment is not closed, its command fails, and the
        stream delivers its event again.
        """
        closings = [
            several if isinstance(outcome, Done) else ()
            for outcome, several in zip(stored, closings, strict=True)
        ]
        envelopes = [each for several in closings for each in several]
        closed = await write_by_key(self.writer, envelopes)
        await self.recalls.request_of({each.target for each in envelopes})
        failures = [
            [f for each in several if isinstance(f := closed[each.key], Failure)]
            for several in closings
        ]
        return [
            next(iter(failed), outcome) for failed, outcome in zip(failures, stored, strict=True)
        ]


def _close_shipment(
    envelope: Envelope[Any], shipment_id: UUID, reason: Reason
) -> Envelope[CloseShipment]:
    """Returns the command that closes the shipment, as a step of the event."""
    step = envelope.step(str(shipment_id), CloseShipment(reason=reason))
    return replace(step, target=shipment_id)
