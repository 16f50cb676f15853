"""The table of deciders, one for each command, and the rules that several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import NotFound, Stale
from payment_svc.decisions.compensation import compensate
from payment_svc.decisions.contradictions import resolve_contradiction
from payment_svc.decisions.events import with_events
from payment_svc.decisions.orders import apply_order_version
from payment_svc.decisions.payments import capture, create, void
from payment_svc.decisions.refunds import refund_by_request, refund_return
from payment_svc.decisions.settlement import record_unknown_outcome, retry_lookup, settle
from payment_svc.decisions.transitions import Decided
from payment_svc.model.commands import (
    ApplyOrderVersion,
    CapturePayment,
    CreatePayment,
    OperationCommand,
    PaymentRequest,
    RecordUnknownOutcome,
    RefundPayment,
    RefundReturn,
    ResolveContradiction,
    RetryLookup,
    Settle,
    VoidPayment,
)
from payment_svc.model.records import Account, Operation, Payment, Transition

OperationCommandT = TypeVar("OperationCommandT", bound=OperationCommand)
PaymentRequestT = TypeVar("PaymentRequestT", bound=PaymentRequest)
PaymentDecider = Decider[Account, Transition]


def for_payment(
    base: Callable[[Account, Payment, PaymentRequestT, Context], Decided],
) -> PaymentDecider:
    """Returns the decider of a request about one payment.

    The decider raises NotFound PAYMENT_NOT_FOUND, and Stale VERSION_MISMATCH for a request that
    expects another version.
    """

    @wraps(base)
    def decide(account: Account | None, command: PaymentRequestT, context: Context) -> Decided:
        payment = account.payment(command.payment_id) if account else None
        if account is None or payment is None:
            text = f"There is no payment {command.payment_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, payment_id=str(command.payment_id))
        expected = command.expected_version
        if expected not in (None, payment.version):
            raise Stale(expected=str(expected), actual=str(payment.version))
        return base(account, payment, command, context)

    return decide


def skip_repeats(base: PaymentDecider) -> PaymentDecider:
    """Returns the decider that skips a request whose operation exists.

    It is a repeat whose idempotency key was deleted in the meantime.
    """

    @wraps(base)
    def decide(
        account: Account | None,
        command: CreatePayment | CapturePayment | VoidPayment | RefundPayment,
        context: Context,
    ) -> Decided:
        if account and account.requested_by(command.operation.requested_by):
            return Decision(account)
        return base(account, command, context)

    return decide


def for_operation(
    base: Callable[[Account, Payment, Operation, OperationCommandT, Context], Decided],
) -> PaymentDecider:
    """Returns the decider of a command about one operation.

    The decider raises NotFound PAYMENT_NOT_FOUND where no payment has that operation.
    """

    @wraps(base)
    def decide(account: Account | None, command: OperationCommandT, context: Context) -> Decided:
        payment = account.payment_of_operation(command.operation_id) if account else None
        if account is None or payment is None:
            text = f"No payment has asked for operation {command.operation_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(command.operation_id))
        operation = payment.operation(command.operation_id)
        return base(account, payment, operation, command, context)

    return decide


def with_compensation(base: PaymentDecider) -> PaymentDecider:
    """Returns the decider with what follows from every command, a skipped one included.

    Its changes become domain events, and money that the order does not cost goes back.
    """

    @wraps(base)
    def decide(account: Account | None, command: Any, context: Context) -> Decided:
        return compensate(with_events(base(account, command, context)), context)

    return decide


BASE_DECIDERS: Final[Mapping[type[Any], PaymentDecider]] = {
    ApplyOrderVersion: apply_order_version,
    CreatePayment: skip_repeats(create),
    CapturePayment: skip_repeats(for_payment(capture)),
    VoidPayment: skip_repeats(for_payment(void)),
    RefundPayment: skip_repeats(for_payment(refund_by_request)),
    RefundReturn: refund_return,
    Settle: for_operation(settle),
    RecordUnknownOutcome: for_operation(record_unknown_outcome),
    RetryLookup: for_operation(retry_lookup),
    ResolveContradiction: for_payment(resolve_contradiction),
}
DECIDERS: Final[Mapping[type[Any], PaymentDecider]] = {
    kind: with_compensation(base) for kind, base in BASE_DECIDERS.items()
}

decide = decider(DECIDERS)
