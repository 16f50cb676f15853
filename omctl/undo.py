"""`omctl order undo`: undoes the services' work for an order that the order service lacks.

The order service lacks it when its database was restored to an older state. Each step is a public
RPC.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import reservation_service_pb2
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.rpc.client import Channel, ask
from chassis.values.errors import NotFound, Refused
from omctl.audit.facts import every_record
from omctl.audit.money import retained
from omctl.audit.orders import AT_REST, OVER
from omctl.names import method_name, name_of

NOTE = "the order service has no such order"


class Undo:
    """Undoes one order, over channels to the five services by name. `steps` returns one line for
    each step.

    Each request's id is derived from its content, so a repeat continues where the last run ended.
    """

    def __init__(self, channels: Mapping[str, Channel], order_id: str, timeout_s: float) -> None:
        self._order_id, self._timeout_s = order_id, timeout_s
        self._orders = OrderServiceStub(channels["order"])
        self._fulfillments = FulfillmentServiceStub(channels["fulfillment"])
        self._shipping = ShippingServiceStub(channels["shipping"])
        self._payments = PaymentServiceStub(channels["payment"])
        self._reservations = ReservationServiceStub(channels["warehouse"])
        self.refused = False
        self._delivered = False  # at least one parcel
        # Warehouses and attempts with a fulfilment: its event uncommits their units.
        self._worked_on: set[tuple[str, int]] = set()

    async def exists(self) -> bool:
        """Returns whether the order service has the order."""
        request = order_service_pb2.GetOrderRequest(order_id=self._order_id)
        try:
            await ask(self._orders.GetOrder, request, timeout_s=self._timeout_s)
        except NotFound:
            return False
        return True

    async def steps(self) -> AsyncIterator[str]:
        """Takes every step and yields its result. After a refused step the others follow. Raises
        Failure if a service does not answer.
        """
        for part in (self._works, self._recalls, self._gives_back, self._releases):
            async for line in part():
                yield line

    async def _works(self) -> AsyncIterator[str]:
        request = fulfillment_service_pb2.ListFulfillmentsRequest(order_id=self._order_id)
        works = await self._all(self._fulfillments, request, "fulfillments")
        self._worked_on = {(work.warehouse_id, work.attempt) for work in works}
        for work in works:
            if name_of(fulfillment_pb2.FulfillmentStatus, work.status) not in OVER:
                cancel = fulfillment_service_pb2.CancelFulfillmentRequest(
                    request_id=self._id("fulfilment", work.fulfillment_id, work.version),
                    fulfillment_id=work.fulfillment_id,
                    note=NOTE,
                )
                what = f"fulfilment {work.fulfillment_id}: cancelled"
                yield await self._do(what, self._fulfillments, cancel)

    async def _recalls(self) -> AsyncIterator[str]:
        request = shipping_service_pb2.ListShipmentsRequest(order_id=self._order_id)
        for each in await self._all(self._shipping, request, "shipments"):
            self._delivered |= each.status == shipping_pb2.SHIPMENT_STATUS_DELIVERED
            if each.status not in AT_REST and not each.HasField("recall_time"):
                cancel = shipping_service_pb2.CancelShipmentRequest(
                    request_id=self._id("shipment", each.shipment_id, each.version),
                    shipment_id=each.shipment_id,
                )
                what = f"shipment {each.shipment_id}: recalled"
                yield await self._do(what, self._shipping, cancel)

    async def _gives_back(self) -> AsyncIterator[str]:
        if self._delivered:
            yield "payments: not refunded: a parcel was delivered. `omctl payment refund` refunds"
            return
        request = payment_service_pb2.ListPaymentsRequest(order_id=self._order_id)
        for payment in await self._all(self._payments, request, "payments"):
            if not retained(payment):
                continue
            request_id = self._id("payment", payment.payment_id, payment.version)
            names = {"request_id": request_id, "payment_id": payment.payment_id}
            if payment.status == payment_pb2.PAYMENT_STATUS_AUTHORIZED:
                what = f"payment {payment.payment_id}: voided"
                void = payment_service_pb2.VoidPaymentRequest(**names)
                yield await self._do(what, self._payments, void)
            else:
                what = f"payment {payment.payment_id}: refunded"
                refund = payment_service_pb2.RefundPaymentRequest(**names)
                yield await self._do(what, self._payments, refund)

    async def _releases(self) -> AsyncIterator[str]:
        request = reservation_service_pb2.ListReservationsRequest(order_id=self._order_id)
        found = await self._all(self._reservations, request, "reservations")
        held = {r.attempt for r in found if any(line.reserved for line in r.lines)}
        for attempt in sorted(held):
            release = reservation_service_pb2.ReleaseReservationRequest(
                request_id=self._id("reservation", self._order_id, attempt),
                order_attempt=reservation_service_pb2.OrderAttempt(
                    order_id=self._order_id, attempt=attempt
                ),
            )
            what = f"reservation of attempt {attempt}: released"
            yield await self._do(what, self._reservations, release)
        for each in found:
            units = sum(line.committed for line in each.lines)
            if units and (each.warehouse_id, each.attempt) not in self._worked_on:
                yield (
                    f"reservation {each.reservation_id}: {units} units stay committed: no"
                    " fulfilment picks them. `omctl audit` names the counts that make them"
                    " available"
                )

    async def _do(self, what: str, stub: Any, request: Message) -> str:
        """Sends the request; returns `what` it has done, or its refusal."""
        method = getattr(stub, method_name(request))
        try:
            await ask(method, request, timeout_s=self._timeout_s)
        except Refused as refusal:
            self.refused = True
            return f"{what.partition(':')[0]}: refused, {refusal.reason}: {refusal}"
        return what

    async def _all(self, stub: Any, request: Message, field: str) -> list[Any]:
        return await every_record(
            getattr(stub, method_name(request)), request, field, self._timeout_s
        )

    def _id(self, *of: object) -> str:
        return str(uuid5(UUID(self._order_id), f"undo:{of}"))
