"""The answers of processors, unknown outcomes and their lookups. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from payment_svc.decisions.contradictions import store_contradiction
from payment_svc.decisions.orders import add_not_required_payment
from payment_svc.decisions.steps import (
    Decided,
    next_version,
    settle_refund,
    with_operation,
    with_payment,
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
    Declined,
    Pending,
    Succeeded,
)
from payment_svc.model.commands import RecordUnknownOutcome, RetryLookup, Settle
from payment_svc.model.events import PaymentConfirmed, PaymentFailed
from payment_svc.model.records import Account, Operation, Payment

DECLINES_MAX = 3  # the third one is final, with any code


def settle(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """Applies a processor's answer to an operation, or stores it as a contradiction.

    An order that costs nothing by then gets its payment where this one fails.
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
    """The account after the answer; an answer that is known changes nothing."""
    if command.reused:
        return store_contradiction(account, payment, command, context)
    match command.answer:
        case Pending(reference):
            if operation.outcome not in OPEN or operation.reference:
                return Decision(account)
            pending = replace(operation, reference=reference)
            payment, transition = next_version(payment, context, Reason.OUTCOME_PENDING, pending)
            return Decision(with_payment(account, payment), [transition])
        case Succeeded(reference):
            if operation.outcome is Outcome.SUCCEEDED and operation.reference == reference:
                return Decision(account)
            if operation.outcome not in OPEN:
                return store_contradiction(account, payment, command, context)
            done = replace(
                operation,
                outcome=Outcome.SUCCEEDED,
                reference=reference,
                settle_time=context.time,
                next_lookup_time=None,
            )
            return succeed(account, payment, done, command, context)
        case Declined() as answer:
            if operation.outcome is Outcome.FAILED:
                return Decision(account)
            if operation.outcome not in OPEN:
                return store_contradiction(account, payment, command, context)
            failed = replace(
                operation,
                outcome=Outcome.FAILED,
                failure_code=answer.code,
                settle_time=context.time,
                next_lookup_time=None,
                reference=answer.reference or operation.reference,
            )
            return decline(account, payment, failed, answer, command, context)


def succeed(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment with the status that the operation's success means."""
    if operation.kind is Kind.REFUND:
        return complete_refund(account, payment, operation, command, context)
    status = STATUS_AFTER_SUCCESS[operation.kind]
    if not can_become(payment.status, status):
        return store_contradiction(account, payment, command, context)
    reason = STATUS_REASON[status]
    payment, transition = next_version(payment, context, reason, operation, status=status)
    events = [PaymentConfirmed(payment, transition)] if status is Status.CAPTURED else []
    return Decision(with_payment(account, payment), [transition], events)


def complete_refund(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment with a refund that the processor has made."""
    status = status_after_refund(payment.captured, payment.refunded + operation.amount)
    if status is not payment.status and not can_become(payment.status, status):
        return store_contradiction(account, payment, command, context)
    reason = STATUS_REASON[status]
    payment, transition = next_version(payment, context, reason, operation, status=status)
    return settle_refund(account, payment, operation, transition)


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
    payment authorised. A declined charge fails the payment, for this try or for the attempt.
    """
    if operation.kind is Kind.REFUND:
        reason = DECLINE_REASON[Kind.REFUND]
        payment, transition = next_version(payment, context, reason, operation)
        return settle_refund(account, payment, operation, transition)
    if operation.kind in (Kind.CAPTURE, Kind.VOID):
        if answer.code == AUTHORIZATION_EXPIRED:
            return expire_authorization(account, payment, operation, command, context)
        payment, transition = next_version(
            payment, context, DECLINE_REASON[operation.kind], operation
        )
        return Decision(with_payment(account, payment), [transition])
    status = Status.FAILED if is_final(account, payment, answer) else Status.DECLINED
    if not can_become(payment.status, status):
        return store_contradiction(account, payment, command, context)
    reason = STATUS_REASON[status]
    payment, transition = next_version(payment, context, reason, operation, status=status)
    events = [PaymentFailed(payment, transition)] if status is Status.FAILED else []
    return Decision(with_payment(account, payment), [transition], events)


def expire_authorization(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The voided payment: its authorisation has expired at the processor.

    Another payment of the attempt may be made.
    """
    if not can_become(payment.status, Status.VOIDED):
        return store_contradiction(account, payment, command, context)
    reason, status = Reason.AUTHORIZATION_EXPIRED, Status.VOIDED
    payment, transition = next_version(payment, context, reason, operation, status=status)
    return Decision(with_payment(account, payment), [transition])


def is_final(account: Account, payment: Payment, answer: Declined) -> bool:
    """Whether no other try may follow for the payment's attempt: its code says so, or it is the
    third that a card has declined.
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
    """The operation with an unknown outcome."""
    if operation.outcome is not Outcome.REQUESTED:
        return Decision(account)
    next_lookup_time = context.time + command.lookup_after
    unknown = replace(operation, outcome=Outcome.UNKNOWN, next_lookup_time=next_lookup_time)
    payment, transition = next_version(payment, context, Reason.OUTCOME_UNKNOWN, unknown)
    return Decision(with_payment(account, payment), [transition])


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
    return Decision(with_payment(account, with_operation(payment, scheduled)))
