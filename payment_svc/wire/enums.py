"""The values of the service's enums as those of the contracts, and back."""

from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2

from chassis.values.convert import enum_values
from payment_svc.lifecycle import Cause, Kind, Outcome, RefundStatus, Status

STATUS = enum_values(Status, "PAYMENT_STATUS", payment_pb2.PaymentStatus.Value)
KIND = enum_values(Kind, "PAYMENT_OPERATION_KIND", payment_pb2.PaymentOperationKind.Value)
OUTCOME = enum_values(
    Outcome, "PAYMENT_OPERATION_OUTCOME", payment_pb2.PaymentOperationOutcome.Value
)
CAUSE = enum_values(Cause, "REFUND_CAUSE", payment_pb2.RefundCause.Value)
REFUND = enum_values(RefundStatus, "REFUND_STATUS", payment_pb2.RefundStatus.Value)
REFUND_OF = {value: status for status, value in REFUND.items()}
STATUS_OF = {value: status for status, value in STATUS.items()}
ORDER_STATUS_OF = {
    value: name.removeprefix("ORDER_STATUS_").lower()
    for name, value in order_pb2.OrderStatus.items()
    if value != order_pb2.ORDER_STATUS_UNSPECIFIED
}


def status_value(status: Status | None) -> payment_pb2.PaymentStatus.ValueType:
    return STATUS[status] if status else payment_pb2.PAYMENT_STATUS_UNSPECIFIED
