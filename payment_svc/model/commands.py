"""The requests of callers, and the commands of the payment service.

A command has domain data only: chassis.values.envelope carries the rest. It changes one account, so
its envelope's target is the account's order. An operation makes a command of a request.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from chassis.values.money import Money
from payment_svc.model.answers import Answer
from payment_svc.model.records import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A caller requests to charge an order; `expected` is the total that the caller expects."""

    expected: Money | None
    manual_capture: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """A caller's request about one payment.

    `expected_version` is the version that the caller decided on; None: any version will do.
    """

    payment_id: UUID
    expected_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest(PaymentRequest):
    """A caller requests a capture; `expected` is the exact amount that must be captured."""

    expected: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest(PaymentRequest):
    """A caller requests a refund; an `amount` of None is all that remains.

    With a `return_id` it is another try of that return's refund, which the processor declined;
    `amount` is then the return's, or None.
    """

    amount: Money | None
    return_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperation:
    """The operation that a command stores before the processor is called.

    id            the proposed id; also the processor's idempotency key
    requested_by  the key of the request; a repeat finds the operation by it, at any time
    lookup_after  time until the settling worker looks the outcome up, if it is not known by then
    """

    id: UUID
    requested_by: str
    lookup_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOrderVersion:
    """Applies the order of an event of the order service.

    `payment_id` is for the payment of an order of total zero, which needs no request.
    """

    order: Order
    payment_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePayment(CreateRequest):
    """Charge an order.

    `order` is the order service's answer; None: it is a repeat, or the service is unreachable.
    """

    payment_id: UUID
    processor: str
    operation: NewOperation
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePayment(CaptureRequest):
    """Capture what the order costs of an authorised payment.

    `order` is the order service's answer; None: it is a repeat, or the service is unreachable.
    """

    operation: NewOperation
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidPayment(PaymentRequest):
    """Void the authorisation of a payment."""

    operation: NewOperation


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPayment(RefundRequest):
    """Refund captured money by a caller's request."""

    operation: NewOperation


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundReturn:
    """Units of a return were accepted: `amount` of the money of the order's `attempt` goes back."""

    return_id: str
    attempt: int
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCommand:
    """A command that concerns one operation."""

    operation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(OperationCommand):
    """Applies a processor's answer: to a call, in a webhook, or in a lookup.

    payment_id      of the not-required payment that may follow: see decisions.settlement.settle
    payload_sha256  identifies the answer, as evidence
    reused          the webhook's event id came before with another content: the answer is stored
                    as a contradiction, and never applied
    """

    answer: Answer
    payment_id: UUID
    payload_sha256: bytes
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveContradiction(PaymentRequest):
    """An operator has found out at the processor what is true; the envelope's note says what.

    No money moves.
    """

    contradiction_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnknownOutcome(OperationCommand):
    """Records that the processor's answer was lost, so that the outcome is unknown.

    The settling worker looks it up at once.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLookup(OperationCommand):
    """The settling worker looks an operation up. `lookup_number` counts its lookups from 1; the
    next one is due after `lookup_after`, on any replica.
    """

    lookup_number: int
    lookup_after: timedelta
