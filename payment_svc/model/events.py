"""The domain events of the payment service. Each has the row of history that made it."""

from dataclasses import dataclass

from payment_svc.model.records import Payment, Refund, Transition


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """An event of a payment; `payment` is as it stands after the change of the row of history."""

    payment: Payment
    transition: Transition


@dataclass(frozen=True, slots=True)
class PaymentConfirmed(PaymentEvent):
    """The payment's attempt is paid: captured, or not required."""


@dataclass(frozen=True, slots=True)
class PaymentFailed(PaymentEvent):
    """The payment's attempt is finally not paid."""


@dataclass(frozen=True, slots=True)
class RefundSettled(PaymentEvent):
    """A refund has completed or failed, as its outcome says."""

    refund: Refund


@dataclass(frozen=True, slots=True)
class PaymentStatusChanged(PaymentEvent):
    """The payment has changed its status, but for refunds, as the row of history says."""


DomainEvent = PaymentConfirmed | PaymentFailed | RefundSettled | PaymentStatusChanged
