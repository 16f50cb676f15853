"""Shipments of ready fulfilments."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, NotFound, Refused
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc.decisions.refusals import closed_refusal, refusal
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import CreateShipment
from shipping_svc.model.records import Shipment, ShipmentRequest
from shipping_svc.operations.labels import LabelOperations
from shipping_svc.operations.writing import write_by_key
from shipping_svc.peers import Orders
from shipping_svc.providers import pdf
from shipping_svc.store.closed import find_closed, find_known_orders
from shipping_svc.store.shipments import find_fulfillments

# The error reasons of a closed order and of a cancelled fulfilment.
CLOSED_REASONS = frozenset({"ORDER_CLOSED", "ILLEGAL_TRANSITION"})


class CreationOperations:
    """The creation of shipments, by calls and by events."""

    def __init__(
        self,
        database: Database,
        writer: Writer[Shipment],
        orders: Orders,
        labels: LabelOperations,
    ) -> None:
        self.database, self.writer, self.orders, self.labels = database, writer, orders, labels
        self._skipped = telemetry.counter(
            "shipping_closed_orders_skipped_total",
            "Ready fulfilments that were skipped: they or their order were closed",
        )

    async def create_shipment(self, envelope: Envelope[ShipmentRequest]) -> Shipment:
        """Returns the fulfilment's shipment with its label.

        Where the label cannot be bought now, it raises the failure, and the shipment stays pending
        for the sweeper.
        """
        [outcome] = await self._create_pending([envelope])
        shipment = unwrap(outcome)
        if shipment.status is Status.PENDING:
            [outcome] = await self.labels.buy([shipment])
            shipment = unwrap(outcome)
        if refused := refusal(shipment, cjk_installed=pdf.is_cjk_installed()):
            raise refused
        if shipment.status is Status.PENDING:
            text = "The parcels were packed again, and their label is still to be bought."
            raise Deferred("CONTENTION", text, shipment_id=str(shipment.id))
        return shipment

    async def find_missing_orders(self, order_ids: Collection[UUID]) -> dict[UUID, Failure]:
        """Returns a failure for each order that the order service does not have.

        Where the order service does not answer, each order is Deferred. One call checks the orders
        that have neither a stored shipment nor a stored closed attempt.
        """
        async with self.database.read() as connection:
            new = (
                set(order_ids) - await find_known_orders(connection, order_ids)
                if order_ids
                else set()
            )
        if not new:
            return {}
        try:
            existing = await self.orders.find_existing(new)
        except Deferred as deferred:
            return dict.fromkeys(new, deferred)
        return {
            id: NotFound("ORDER_NOT_FOUND", f"There is no order {id}.", order_id=str(id))
            for id in new - existing
        }

    async def create_shipments(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> Sequence[Outcome[Any]]:
        """Creates the shipments of these events, and buys their labels.

        An event is done once its pending shipment is stored. The sweeper buys the labels that this
        operation did not get.
        """
        outcomes = await self._create_pending(envelopes)
        created = {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }
        await self.labels.buy(
            [shipment for shipment in created.values() if shipment.status is Status.PENDING]
        )
        return [
            self._skip_closed()
            if isinstance(outcome, Refused) and outcome.reason in CLOSED_REASONS
            else outcome
            for outcome in outcomes
        ]

    async def _create_pending(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> list[Outcome[Shipment]]:
        """Stores pending shipments. The outcome of a closed order or fulfilment is a refusal.

        The second request for a fulfilment gets the shipment of the first.
        """
        fulfillment_ids = {each.command.fulfillment_id for each in envelopes}
        order_ids = {each.command.order_id for each in envelopes}
        async with self.database.read() as connection:
            versions = await find_fulfillments(connection, fulfillment_ids)
            closed = await find_closed(connection, order_ids, fulfillment_ids)
        outcomes = await write_by_key(
            self.writer,
            [
                creation(
                    each,
                    uuid7(),
                    versions,
                    self.labels.calls.carrier.name,
                )
                for each in envelopes
                if each.command.fulfillment_id in versions or not closed.reason(each.command)
            ],
        )
        crash_points.point("shipping.label_requested")
        return [
            outcomes.get(each.key)
            or closed_refusal(each.command, closed.reason(each.command) or Reason.ORDER_CLOSED)
            for each in envelopes
        ]

    def _skip_closed(self) -> Done[None]:
        """Returns the outcome of an event whose order or fulfilment is closed."""
        self._skipped.inc()
        return Done(record=None)


def creation(
    envelope: Envelope[ShipmentRequest], id: UUID, versions: Mapping[UUID, int], carrier: str
) -> Envelope[CreateShipment]:
    """Returns the command that creates the shipment of the request; `id` is proposed for it.

    `versions` has the highest version of each fulfilment that has a shipment.
    """
    request = envelope.command
    version = versions.get(request.fulfillment_id, 0)
    command = CreateShipment(request=request, carrier=carrier, stored_version=version)
    return replace(envelope.with_command(command), target=id)
