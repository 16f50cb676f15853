"""The contract's enum values by those of the service, and the reverse."""

from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import enum_values
from shipping_svc.lifecycle import Status

STATUS = enum_values(Status, "SHIPMENT_STATUS", shipping_pb2.ShipmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
CLOSED_STATUSES = {
    order_pb2.ORDER_STATUS_CANCELLED: "cancelled",
    order_pb2.ORDER_STATUS_FAILED: "failed",
}
