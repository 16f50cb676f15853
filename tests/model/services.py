"""The five services of the model: their operations over memory, and the servicers, handlers and
workers of these. No tests here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

import fulfillment_svc.app
import fulfillment_svc.consumers
import fulfillment_svc.peers
import fulfillment_svc.rpc
import fulfillment_svc.wire.events_out
import order_svc.app
import order_svc.consumers
import order_svc.peers
import order_svc.rpc
import order_svc.wire.events_out
import payment_svc.app
import payment_svc.consumers
import payment_svc.peers
import payment_svc.rpc
import payment_svc.wire.events_out
import shipping_svc.app
import shipping_svc.consumers
import shipping_svc.peers
import shipping_svc.rpc
import shipping_svc.wire.events_out
import warehouse_svc.app
import warehouse_svc.consumers
import warehouse_svc.rpc
import warehouse_svc.wire.events_out
from chassis.consume.dispatch import Handler
from fulfillment_svc.model.inspection import InspectionPolicy
from shipping_svc.operations.carrier_calls import Timeouts

INSPECTED = "lamp"  # packages with this SKU are inspected before they ship
WIRES: dict[str, Any] = {
    "order": order_svc.wire.events_out,
    "warehouse": warehouse_svc.wire.events_out,
    "payment": payment_svc.wire.events_out,
    "fulfillment": fulfillment_svc.wire.events_out,
    "shipping": shipping_svc.wire.events_out,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOperations:
    """The operations of each service."""

    order: order_svc.app.Operations
    warehouse: warehouse_svc.app.Operations
    payment: payment_svc.app.Operations
    fulfillment: fulfillment_svc.app.Operations
    shipping: shipping_svc.app.Operations


def build_operations(
    memory: Mapping[str, Any], channel: Any, bank: Any, carrier: Any
) -> ServiceOperations:
    """Returns the operations over the memory of each service; `channel` leads to every peer."""
    return ServiceOperations(
        order=order_svc.app.Operations(memory["order"], order_svc.peers.Warehouse(channel)),
        warehouse=warehouse_svc.app.Operations(memory["warehouse"]),
        payment=payment_svc.app.Operations(
            memory["payment"],
            payment_svc.peers.Orders(channel),
            {"bank": bank},
            processor="bank",
            answer_timeout_s=8.0,
            settle_after_s=10.0,
        ),
        fulfillment=fulfillment_svc.app.Operations(
            memory["fulfillment"],
            fulfillment_svc.peers.Warehouse(channel),
            fulfillment_svc.peers.Shipping(channel),
            InspectionPolicy(skus=frozenset({INSPECTED})),
            commit_batch=100,
        ),
        shipping=shipping_svc.app.Operations(
            memory["shipping"], shipping_svc.peers.Orders(channel), carrier, Timeouts()
        ),
    )


def workers(operations: ServiceOperations) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Returns one iteration of each worker, by the worker's name in the model."""
    return {
        "expire orders": operations.order.cancellation.expire_orders,
        "expire reservations": operations.warehouse.reservations.expire_reservations,
        "settle": operations.payment.settlement.settle_due,
        "commit pending stock": operations.fulfillment.commits.commit_pending_stock,
        "buy labels": operations.shipping.labels.buy_pending_labels,
        "recall": operations.shipping.recalls.retry_open_recalls,
    }


def servicers(operations: ServiceOperations) -> dict[str, Any]:
    """Returns the servicer of each gRPC service, by its full name."""
    order, warehouse, payment = operations.order, operations.warehouse, operations.payment
    fulfillment, shipping = operations.fulfillment, operations.shipping
    return {
        "ordermesh.order.v1.OrderService": order_svc.rpc.OrderService(
            order.creation, order.cancellation, order.reading
        ),
        "ordermesh.order.v1.ReturnService": order_svc.rpc.ReturnService(order.returns),
        "ordermesh.warehouse.v1.InventoryService": warehouse_svc.rpc.InventoryService(
            warehouse.stock
        ),
        "ordermesh.warehouse.v1.ReservationService": warehouse_svc.rpc.ReservationService(
            warehouse.reservations
        ),
        "ordermesh.payment.v1.PaymentService": payment_svc.rpc.PaymentService(
            payment.payments, payment.settlement, payment.reading
        ),
        "ordermesh.fulfillment.v1.FulfillmentService": fulfillment_svc.rpc.FulfillmentService(
            fulfillment.staff, fulfillment.inspections, fulfillment.reading
        ),
        "ordermesh.shipping.v1.ShippingService": shipping_svc.rpc.ShippingService(
            shipping.creation, shipping.recalls, shipping.reports, shipping.reading
        ),
    }


def handlers(operations: ServiceOperations) -> dict[str, dict[type[Message], Handler[Any]]]:
    """Returns the handlers of each service's events."""
    order, shipping = operations.order, operations.shipping
    fulfillment = operations.fulfillment
    tables = {
        "order": order_svc.consumers.handlers(order.payments, order.writer),
        "warehouse": warehouse_svc.consumers.handlers(operations.warehouse.writer),
        "payment": payment_svc.consumers.handlers(operations.payment.writer),
        "fulfillment": fulfillment_svc.consumers.handlers(fulfillment.orders, fulfillment.writer),
        "shipping": shipping_svc.consumers.handlers(
            shipping.creation, shipping.recalls, shipping.closing
        ),
    }
    return {service: dict(table) for service, table in tables.items()}
