"""RPCs out: the calls of the shipping service to its peers."""

from collections.abc import Collection
from uuid import UUID

from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.view.v1 import view_pb2

from chassis.rpc.client import Channel, ask
from shipping_svc.model.records import Recipient
from shipping_svc.wire import events_in

TIMEOUT_S = 2.0
# The most orders that the order service accepts in one call.
BATCH_MAX = 1_000


class Orders:
    """The order service."""

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)

    async def get_recipient(self, order_id: UUID) -> Recipient:
        """Returns the recipient of the order.

        Raises NotFound ORDER_NOT_FOUND, or Deferred where the order service is unreachable.
        """
        request = api.GetOrderRecipientRequest(order_id=str(order_id))
        return events_in.recipient(
            (await ask(self._stub.GetOrderRecipient, request, timeout_s=TIMEOUT_S)).recipient
        )

    async def find_existing(self, order_ids: Collection[UUID]) -> set[UUID]:
        """Returns those of the orders that exist.

        Raises Deferred where the order service is unreachable.
        """
        found: set[UUID] = set()
        ids = sorted(map(str, order_ids))
        for start in range(0, len(ids), BATCH_MAX):
            request = api.BatchGetOrdersRequest(
                order_ids=ids[start : start + BATCH_MAX],
                view=view_pb2.VIEW_SUMMARY,
                allow_missing=True,
            )
            answer = await ask(self._stub.BatchGetOrders, request, timeout_s=TIMEOUT_S)
            found.update(UUID(order.order_id) for order in answer.orders)
        return found
