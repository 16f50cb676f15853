"""The domain events of the payment service. Each has the row of history that made it."""

from dataclasses import dataclass

from payment_svc.model.records import Payment, Refund, Transition


@dataclass(frozen=True, slots=True)
class PaymentConfirmed:
    """The payment's attempt is paid: captured, or not required."""

    payment: Payment
    transition: Transition


@dataclass(frozen=True, slots=True)
class PaymentFailed:
    """The payment's attempt is finally not paid."""

    payment: Payment
    transition: Transition


@dataclass(frozen=True, slots=True)
class RefundSettled:
    """A refund has completed or failed, as its outcome says; `payment` is as it stands then."""

    payment: Payment
    transition: Transition
    refund: Refund


@dataclass(frozen=True, slots=True)
class PaymentStatusChanged:
    """The payment has changed its status, but for refunds, as the row of history says; `payment` is
    as the decision left it.
    """

    payment: Payment
    transition: Transition


DomainEvent = PaymentConfirmed | PaymentFailed | RefundSettled | PaymentStatusChanged
