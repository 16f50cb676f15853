"""Requests of the staff: picking, packing and the cancellation."""

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import Request
from fulfillment_svc.model.records import Fulfillment, OrderFulfillments
from fulfillment_svc.operations.shipping import ShippingOperations


class StaffOperations:
    """The operation of a request about one fulfilment."""

    def __init__(self, writer: Writer[OrderFulfillments], shipping: ShippingOperations) -> None:
        self.writer, self.shipping = writer, shipping

    async def change(self, envelope: Envelope[Request]) -> Fulfillment:
        """The fulfilment after a person's request. Asks for its shipment once it is ready."""
        [outcome] = await self.writer.write([envelope])
        fulfillment = unwrap(outcome).find(envelope.target)
        assert fulfillment, "a command about a fulfilment is done only where there is one"
        if fulfillment.status is Status.READY and not fulfillment.withdraw_reason:
            await self.shipping.request_shipment(fulfillment)
        return fulfillment
