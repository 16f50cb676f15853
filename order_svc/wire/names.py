"""What our enums are called in the contracts."""

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import names
from order_svc.lifecycle import (
    End,
    PaymentStatus,
    Progress,
    ReturnProgress,
    Status,
    StockStatus,
    Work,
)

STATUS = names(Status, "ORDER_STATUS", order_pb2.OrderStatus.Value)
PAYMENT = names(PaymentStatus, "PAYMENT_STATUS", order_pb2.PaymentStatus.Value)
PROGRESS = names(Progress, "FULFILLMENT_PROGRESS", order_pb2.FulfillmentProgress.Value)
STOCK = names(StockStatus, "STOCK_STATUS", order_pb2.StockStatus.Value)
RETURNS = names(ReturnProgress, "RETURN_PROGRESS", order_pb2.ReturnProgress.Value)
WORK = names(Work, "ORDER_FULFILLMENT_STATUS", order_pb2.OrderFulfillmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
STOCK_OF = {value: stock for stock, value in STOCK.items()}
WORK_OF = {
    fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{w.name}"): w
    for w in Work
    if w is not Work.EXPECTED
}
END_OF = {
    shipping_pb2.SHIPMENT_STATUS_LOST: End.LOST,
    shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER: End.RETURNED,
    shipping_pb2.SHIPMENT_STATUS_VOIDED: End.VOIDED,
}
