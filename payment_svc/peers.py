"""RPCs out: whom the payment service asks, and in which words."""

from uuid import UUID

from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub

from chassis.client import Channel, ask
from payment_svc import wire
from payment_svc.model import Order

TIMEOUT_S = 2.0


class Orders:
    """The order service."""

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)

    async def get(self, order_id: UUID) -> Order:
        """What may be charged for the order now. Raises NotFound ORDER_NOT_FOUND, or Deferred where the service cannot be reached."""
        response = await ask(self._stub.GetOrder, api.GetOrderRequest(order_id=str(order_id)), timeout_s=TIMEOUT_S)
        return wire.order_of_answer(response.order)
