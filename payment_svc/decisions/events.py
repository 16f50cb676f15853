"""The domain events of a decision: they follow from its rows of history. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from payment_svc.decisions.transitions import Decided
from payment_svc.lifecycle import PUBLISHED_STATUSES, Reason
from payment_svc.model.events import (
    DomainEvent,
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundSettled,
)

# The event of the attempt that a change settles.
ATTEMPT_EVENTS: Final[Mapping[str, type[PaymentConfirmed | PaymentFailed]]] = {
    Reason.CAPTURED: PaymentConfirmed,
    Reason.NOTHING_TO_PAY: PaymentConfirmed,
    Reason.FAILED: PaymentFailed,
}
# The changes that settle a refund.
REFUND_REASONS: Final = frozenset(
    {
        Reason.PARTIALLY_REFUNDED,
        Reason.REFUNDED,
        Reason.REFUND_DECLINED,
        Reason.NOTHING_REFUNDABLE,
    }
)


def with_events(decided: Decided) -> Decided:
    """The decision with the domain events of its changes.

    Of one change, PaymentStatusChanged comes before the event of the attempt.
    """
    payments = {payment.id: payment for payment in decided.record.payments}
    events: list[DomainEvent] = []
    for row in decided.history:
        payment = payments[row.payment_id]
        if row.new in PUBLISHED_STATUSES and row.new is not row.old:
            events.append(PaymentStatusChanged(payment, row))
        if row.reason in ATTEMPT_EVENTS:
            events.append(ATTEMPT_EVENTS[row.reason](payment, row))
        if row.reason in REFUND_REASONS and row.operation_id:
            refund = payment.refund(payment.operation(row.operation_id))
            events.append(RefundSettled(payment, row, refund))
    return replace(decided, events=events)
