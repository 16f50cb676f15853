"""RPCs out: whom the shipping service asks, and in which words."""

from uuid import UUID

from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub

from chassis.client import Channel, ask
from shipping_svc import wire
from shipping_svc.model import Recipient

RECIPIENT_TIMEOUT_S = 2.0


class Orders:
    """The order service."""

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)

    async def recipient(self, order_id: UUID) -> Recipient:
        """Who receives the order. Raises NotFound ORDER_NOT_FOUND, or Deferred where the order service cannot be reached."""
        request = api.GetOrderRecipientRequest(order_id=str(order_id))
        return wire.recipient((await ask(self._stub.GetOrderRecipient, request, timeout_s=RECIPIENT_TIMEOUT_S)).recipient)
