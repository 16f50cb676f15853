"""Requests of the staff: picking, packing and the cancellation."""

from uuid import uuid5

import structlog

from chassis.observe import telemetry
from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure
from chassis.write.writer import Writer
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import Request
from fulfillment_svc.model.records import Fulfillment, OrderFulfillments
from fulfillment_svc.peers import Shipping

_log = structlog.get_logger(__name__)


class StaffOperations:
    """The operation of a request about one fulfilment."""

    def __init__(self, writer: Writer[OrderFulfillments], shipping: Shipping) -> None:
        self.writer, self.shipping = writer, shipping
        self._shipments = telemetry.counter(
            "fulfillment_shipment_calls_total",
            "Calls to shipping for a shipment, by outcome",
            "outcome",
        )

    async def change(self, envelope: Envelope[Request]) -> Fulfillment:
        """The fulfilment after a person's request. The shipment of a ready one is requested."""
        [outcome] = await self.writer.write([envelope])
        fulfillment = unwrap(outcome).find(envelope.target)
        assert fulfillment, "a command about a fulfilment is done only where there is one"
        if fulfillment.status is Status.READY and not fulfillment.withdraw_reason:
            await self._request_shipment(fulfillment)
        return fulfillment

    async def _request_shipment(self, fulfillment: Fulfillment) -> None:
        """Best effort: where it fails, shipping makes the shipment when it consumes the event of
        the ready fulfilment.
        """
        try:
            # A fulfilment that is ready again, with other packages, has another version: its
            # shipment is another request.
            request_id = uuid5(fulfillment.id, f"CreateShipment:{fulfillment.version}")
            await self.shipping.create_shipment(request_id, fulfillment)
        except Failure as failure:
            self._shipments.labels("deferred" if isinstance(failure, Deferred) else "refused").inc()
            _log.warning(
                "no shipment yet: shipping creates it from the event",
                fulfillment_id=str(fulfillment.id),
                reason=failure.reason,
                message=failure.message,
            )
        else:
            self._shipments.labels("done").inc()
