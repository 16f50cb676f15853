"""The values of the service's enums as those of the contracts, and back. Those of returns are in
returns.py.
"""

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import enum_values
from order_svc.lifecycle import (
    FulfillmentState,
    PaymentStatus,
    Progress,
    ReturnProgress,
    ShipmentOutcome,
    Status,
    StockStatus,
)

STATUS = enum_values(Status, "ORDER_STATUS", order_pb2.OrderStatus.Value)
PAYMENT = enum_values(PaymentStatus, "PAYMENT_STATUS", order_pb2.PaymentStatus.Value)
PROGRESS = enum_values(Progress, "FULFILLMENT_PROGRESS", order_pb2.FulfillmentProgress.Value)
STOCK = enum_values(StockStatus, "STOCK_STATUS", order_pb2.StockStatus.Value)
RETURNS = enum_values(ReturnProgress, "RETURN_PROGRESS", order_pb2.ReturnProgress.Value)
FULFILLMENT_STATE = enum_values(
    FulfillmentState, "ORDER_FULFILLMENT_STATUS", order_pb2.OrderFulfillmentStatus.Value
)
STATUS_OF = {value: status for status, value in STATUS.items()}
STOCK_OF = {value: stock for stock, value in STOCK.items()}
STATE_OF_FULFILLMENT_STATUS = {
    fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{state.name}"): state
    for state in FulfillmentState
    if state is not FulfillmentState.EXPECTED
}
OUTCOME_OF_SHIPMENT_STATUS = {
    shipping_pb2.SHIPMENT_STATUS_LOST: ShipmentOutcome.LOST,
    shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER: ShipmentOutcome.RETURNED,
    shipping_pb2.SHIPMENT_STATUS_VOIDED: ShipmentOutcome.VOIDED,
}
