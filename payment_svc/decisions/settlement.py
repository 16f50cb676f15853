"""The answers of processors, unknown outcomes and their lookups. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from payment_svc.decisions.contradictions import store_contradiction
from payment_svc.decisions.orders import add_not_required_payment
from payment_svc.decisions.transitions import (
    Decided,
    change_payment,
    with_record,
)
from payment_svc.lifecycle import (
    DECLINE_REASON,
    OPEN,
    STATUS_AFTER_SUCCESS,
    STATUS_REASON,
    Kind,
    Outcome,
    Reason,
    Status,
    can_become,
    status_after_refund,
)
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    UNCOUNTED_CODES,
    Answer,
    Declined,
    Pending,
    Succeeded,
)
from payment_svc.model.commands import RecordUnknownOutcome, RetryLookup, Settle
from payment_svc.model.records import Account, Operation, Payment

DECLINES_MAX = 3  # the third decline that counts is final, with any code


def settle(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """Applies a processor's answer to an operation, or stores it as a contradiction.

    Where this payment is declined or voided, and the order's total is zero by now, the not-required
    payment is added.
    """
    settled = apply_answer(account, payment, operation, command, context)
    return add_not_required_payment(settled, command.payment_id, context)


def apply_answer(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The account after the answer; a repeated answer changes nothing."""
    if command.reused or contradicts(operation, command.answer):
        return store_contradiction(account, payment, command, context)
    if operation.outcome not in OPEN:
        return Decision(account)
    match command.answer:
        case Pending(reference):
            if operation.reference:
                return Decision(account)
            pending = replace(operation, reference=reference)
            return change_payment(account, payment, context, Reason.OUTCOME_PENDING, pending)
        case Succeeded(reference):
            done = replace(
                operation,
                outcome=Outcome.SUCCEEDED,
                reference=reference,
                settle_time=context.time,
                next_lookup_time=None,
            )
            return succeed(account, payment, done, command, context)
        case Declined() as answer:
            failed = replace(
                operation,
                outcome=Outcome.FAILED,
                failure_code=answer.code,
                settle_time=context.time,
                next_lookup_time=None,
                reference=answer.reference or operation.reference,
            )
            return decline(account, payment, failed, answer, command, context)


def contradicts(operation: Operation, answer: Answer) -> bool:
    """Whether the answer contradicts the settled outcome of the operation."""
    if isinstance(answer, Succeeded):
        settled = (operation.outcome, operation.reference)
        return operation.outcome not in OPEN and settled != (Outcome.SUCCEEDED, answer.reference)
    return isinstance(answer, Declined) and operation.outcome is Outcome.SUCCEEDED


def succeed(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment with the status that the operation's success means."""
    if operation.kind is Kind.REFUND:
        status = status_after_refund(payment.captured, payment.refunded + operation.amount)
    else:
        status = STATUS_AFTER_SUCCESS[operation.kind]
    return change_status(account, payment, operation, command, context, status)


def decline(
    account: Account,
    payment: Payment,
    operation: Operation,
    answer: Declined,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment after a declined operation.

    The amount of a declined refund may be refunded again, and a declined capture or void leaves the
    payment authorised. Where the authorisation has expired, the payment is voided, and another one
    of the attempt may be made. A declined charge or authorisation ends the payment: declined, or
    failed where the decline is final.
    """
    kind = operation.kind
    expired = kind in (Kind.CAPTURE, Kind.VOID) and answer.code == AUTHORIZATION_EXPIRED
    if kind in DECLINE_REASON and not expired:
        return change_payment(account, payment, context, DECLINE_REASON[kind], operation)
    if expired:
        status, reason = Status.VOIDED, Reason.AUTHORIZATION_EXPIRED
        return change_status(account, payment, operation, command, context, status, reason)
    status = Status.FAILED if is_final(account, payment, answer) else Status.DECLINED
    return change_status(account, payment, operation, command, context, status)


def change_status(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
    status: Status,
    reason: Reason | None = None,
) -> Decided:
    """The payment with the settled operation and the status.

    The reason is that of the status, unless another one is given. Where the payment's status cannot
    become this one, the answer is stored as a contradiction.
    """
    if status is not payment.status and not can_become(payment.status, status):
        return store_contradiction(account, payment, command, context)
    reason = reason or STATUS_REASON[status]
    return change_payment(account, payment, context, reason, operation, status=status)


def is_final(account: Account, payment: Payment, answer: Declined) -> bool:
    """Whether no other try may follow for the payment's attempt: the answer is final, or it is the
    third decline that counts. One with a code of UNCOUNTED_CODES is never final.
    """
    if answer.code in UNCOUNTED_CODES:
        return False
    before = [
        p for p in account.payments if p.attempt == payment.attempt and p.status is Status.DECLINED
    ]
    return (
        answer.final
        or sum(p.decline_code not in UNCOUNTED_CODES for p in before) + 1 >= DECLINES_MAX
    )


def record_unknown_outcome(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: RecordUnknownOutcome,
    context: Context,
) -> Decided:
    """The operation with an unknown outcome; a lookup is due at once."""
    if operation.outcome is not Outcome.REQUESTED:
        return Decision(account)
    unknown = replace(operation, outcome=Outcome.UNKNOWN, next_lookup_time=context.time)
    return change_payment(account, payment, context, Reason.OUTCOME_UNKNOWN, unknown)


def retry_lookup(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: RetryLookup,
    context: Context,
) -> Decided:
    """The operation with its next lookup: no version or history, because no reader sees it."""
    if operation.outcome not in OPEN or operation.lookups >= command.lookup_number:
        return Decision(account)
    scheduled = replace(
        operation,
        lookups=command.lookup_number,
        next_lookup_time=context.time + command.lookup_after,
    )
    after = replace(payment, operations=with_record(payment.operations, scheduled))
    return Decision(replace(account, payments=with_record(account.payments, after)))
