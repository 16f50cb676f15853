"""Finds the step at which an order is stuck, from the services' records of it."""

from collections.abc import Sequence

from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2

from chassis.values.errors import Failure
from omctl.names import name_of
from simulator.services import Services

LOOK_S = 5.0
PAID = frozenset({payment_pb2.PAYMENT_STATUS_CAPTURED, payment_pb2.PAYMENT_STATUS_NOT_REQUIRED})
WITH_CARRIER = frozenset(
    {fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED, fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED}
)


async def why_stuck(services: Services, order_id: str, trouble: str = "") -> str:
    """Returns one or two sentences. `trouble` is the last failure of a step for the order."""
    try:
        order = (
            await services.ask(
                services.orders.GetOrder,
                order_service_pb2.GetOrderRequest(order_id=order_id),
                timeout_s=LOOK_S,
            )
        ).order
        payments = await services.ask(
            services.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(order_id=order_id),
            timeout_s=LOOK_S,
        )
        works = await services.ask(
            services.fulfillments.ListFulfillments,
            fulfillment_service_pb2.ListFulfillmentsRequest(order_id=order_id),
            timeout_s=LOOK_S,
        )
        shipments = await services.ask(
            services.shipping.ListShipments,
            shipping_service_pb2.ListShipmentsRequest(order_id=order_id),
            timeout_s=LOOK_S,
        )
    except Failure as failure:
        return f"the services could not be read: {failure}"
    found = diagnosis(order, payments.payments, works.fulfillments, shipments.shipments)
    return f"{found}; the last failure: {trouble}" if trouble else found


def diagnosis(
    order: order_pb2.Order,
    payments: Sequence[payment_pb2.Payment],
    works: Sequence[fulfillment_pb2.Fulfillment],
    shipments: Sequence[shipping_pb2.Shipment],
) -> str:
    """Returns which step is stuck, and the logs to read. Pure."""
    match order.status:
        case order_pb2.ORDER_STATUS_PENDING:
            return _unpaid(payments)
        case order_pb2.ORDER_STATUS_CONFIRMED:
            return f"confirmed, and no warehouse has begun: {_look('fulfillment')}"
        case order_pb2.ORDER_STATUS_PROCESSING:
            return _unshipped(works)
        case order_pb2.ORDER_STATUS_SHIPPED:
            return _undelivered(shipments)
    return f"{name_of(order_pb2.OrderStatus, order.status)} ({order.status_reason})"


def _unpaid(payments: Sequence[payment_pb2.Payment]) -> str:
    if any(payment.status in PAID for payment in payments):
        return f"paid, and the order has not consumed the event: {_look('payment', 'order')}"
    if any(payment.status == payment_pb2.PAYMENT_STATUS_PENDING for payment in payments):
        return f"the processor's answer to the payment is awaited: {_look('payment')}"
    return f"pending, and not paid: {_look('payment')}"


def _unshipped(works: Sequence[fulfillment_pb2.Fulfillment]) -> str:
    for work in works:
        where = f"the fulfilment in {work.warehouse_id}"
        if work.status == fulfillment_pb2.FULFILLMENT_STATUS_PLANNING and not work.stock_committed:
            return (
                f"{where} waits for its stock to be committed: {_look('warehouse', 'fulfillment')}"
            )
        if work.status == fulfillment_pb2.FULFILLMENT_STATUS_READY:
            return (
                f"{where} is packed and waits for its shipment: {_look('shipping', 'fulfillment')}"
            )
        if work.status not in WITH_CARRIER:
            status = name_of(fulfillment_pb2.FulfillmentStatus, work.status)
            return f"{where} is stuck in {status}: {_look('fulfillment')}"
    return (
        "every fulfilment is with its carrier, and the order has not consumed the event:"
        f" {_look('shipping', 'order')}"
    )


def _undelivered(shipments: Sequence[shipping_pb2.Shipment]) -> str:
    for shipment in shipments:
        if shipment.status != shipping_pb2.SHIPMENT_STATUS_DELIVERED:
            status = name_of(shipping_pb2.ShipmentStatus, shipment.status)
            return (
                f"the shipment from {shipment.warehouse_id} is stuck in {status}:"
                f" {_look('shipping')}"
            )
    return (
        "every shipment is delivered, and the order has not consumed the event:"
        f" {_look('shipping', 'order')}"
    )


def _look(*services: str) -> str:
    logs = " and ".join(f".ordermesh/logs/{service}.log" for service in services)
    return (
        f"look at the log and the failed events of {' and '.join(services)} (`make run` keeps"
        f" {logs})"
    )
