"""The enums of the service and of the contracts, by each other."""

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import names
from order_svc.lifecycle import (
    FulfillmentState,
    PaymentStatus,
    Progress,
    ReturnProgress,
    ShipmentOutcome,
    Status,
    StockStatus,
)

STATUS = names(Status, "ORDER_STATUS", order_pb2.OrderStatus.Value)
PAYMENT = names(PaymentStatus, "PAYMENT_STATUS", order_pb2.PaymentStatus.Value)
PROGRESS = names(Progress, "FULFILLMENT_PROGRESS", order_pb2.FulfillmentProgress.Value)
STOCK = names(StockStatus, "STOCK_STATUS", order_pb2.StockStatus.Value)
RETURNS = names(ReturnProgress, "RETURN_PROGRESS", order_pb2.ReturnProgress.Value)
FULFILLMENT_STATE = names(
    FulfillmentState, "ORDER_FULFILLMENT_STATUS", order_pb2.OrderFulfillmentStatus.Value
)
STATUS_OF = {value: status for status, value in STATUS.items()}
STOCK_OF = {value: stock for stock, value in STOCK.items()}
FULFILLMENT_STATE_OF = {
    fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{w.name}"): w
    for w in FulfillmentState
    if w is not FulfillmentState.EXPECTED
}
SHIPMENT_OUTCOME_OF = {
    shipping_pb2.SHIPMENT_STATUS_LOST: ShipmentOutcome.LOST,
    shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER: ShipmentOutcome.RETURNED,
    shipping_pb2.SHIPMENT_STATUS_VOIDED: ShipmentOutcome.VOIDED,
}
