"""What processors answer, and how they are asked again. Pure."""

from dataclasses import replace
from typing import assert_never

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from payment_svc.decisions.contradictions import contradicted
from payment_svc.decisions.orders import free
from payment_svc.decisions.steps import Decided, changed, put, refund_settled, with_operation
from payment_svc.lifecycle import (
    DECLINE_REASON,
    OPEN,
    STATUS_REASON,
    SUCCESS_MEANS,
    Kind,
    Outcome,
    Reason,
    Status,
    after_refund,
    may,
)
from payment_svc.model import (
    AUTHORIZATION_EXPIRED,
    UNCOUNTED,
    Account,
    AskAgain,
    Awaited,
    Confirmed,
    Declined,
    Failed,
    LoseAnswer,
    Operation,
    Payment,
    Settle,
    Succeeded,
)

DECLINES_MAX = 3  # the third one is final, whatever its code


def settle(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """Applies what a processor says of an operation, or stores it as a contradiction.

    An order that costs nothing by then gets its payment where this one fails.
    """
    settled = answered(account, payment, operation, command, context)
    return free(settled, command.payment_id, context)


def answered(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The account after the answer; an answer that is known changes nothing."""
    if command.reused:
        return contradicted(account, payment, command, context)
    match command.answer:
        case Awaited(reference):
            if operation.outcome not in OPEN or operation.reference:
                return Decision(account)
            awaited = replace(operation, reference=reference)
            payment, change = changed(payment, context, Reason.AWAITED, awaited)
            return Decision(put(account, payment), [change])
        case Succeeded(reference):
            if operation.outcome is Outcome.SUCCEEDED and operation.reference == reference:
                return Decision(account)
            if operation.outcome not in OPEN:
                return contradicted(account, payment, command, context)
            done = replace(
                operation,
                outcome=Outcome.SUCCEEDED,
                reference=reference,
                settle_time=context.time,
                ask_time=None,
            )
            return succeed(account, payment, done, command, context)
        case Declined() as answer:
            if operation.outcome is Outcome.FAILED:
                return Decision(account)
            if operation.outcome not in OPEN:
                return contradicted(account, payment, command, context)
            failed = replace(
                operation,
                outcome=Outcome.FAILED,
                failure_code=answer.code,
                settle_time=context.time,
                ask_time=None,
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
    """The payment with the amounts and the status that the operation's success means."""
    match operation.kind:
        case Kind.REFUND:
            return refunded(account, payment, operation, command, context)
        case Kind.AUTHORIZE:
            amounts = {"authorized": operation.amount}
        case Kind.CHARGE:
            amounts = {"authorized": operation.amount, "captured": operation.amount}
        case Kind.CAPTURE:
            amounts = {"captured": operation.amount}
        case Kind.VOID:
            amounts = {}
        case unexpected:
            assert_never(unexpected)
    status = SUCCESS_MEANS[operation.kind]
    if not may(payment.status, status):
        return contradicted(account, payment, command, context)
    reason = STATUS_REASON[status]
    payment, change = changed(payment, context, reason, operation, status=status, **amounts)
    facts = [Confirmed(payment, change)] if status is Status.CAPTURED else []
    return Decision(put(account, payment), [change], facts)


def refunded(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment with a refund that the processor has made."""
    refunded = payment.refunded + operation.amount
    status = after_refund(payment.captured, refunded)
    if status is not payment.status and not may(payment.status, status):
        return contradicted(account, payment, command, context)
    payment, change = changed(
        payment,
        context,
        STATUS_REASON[status],
        operation,
        status=status,
        refunded=refunded,
        refund_pending=payment.refund_pending - operation.amount,
    )
    return refund_settled(account, payment, operation, change)


def decline(
    account: Account,
    payment: Payment,
    operation: Operation,
    answer: Declined,
    command: Settle,
    context: Context,
) -> Decided:
    """The payment without what the processor has declined.

    The amount of a declined refund may be refunded again, and a declined capture or void leaves the
    payment authorised. A declined charge fails the payment, for this try or for the attempt.
    """
    if operation.kind is Kind.REFUND:
        left = payment.refund_pending - operation.amount
        reason = DECLINE_REASON[Kind.REFUND]
        payment, change = changed(payment, context, reason, operation, refund_pending=left)
        return refund_settled(account, payment, operation, change)
    if operation.kind in (Kind.CAPTURE, Kind.VOID):
        if answer.code == AUTHORIZATION_EXPIRED:
            return expire(account, payment, operation, command, context)
        payment, change = changed(payment, context, DECLINE_REASON[operation.kind], operation)
        return Decision(put(account, payment), [change])
    status = Status.FAILED if is_final(account, payment, answer) else Status.DECLINED
    if not may(payment.status, status):
        return contradicted(account, payment, command, context)
    payment, change = changed(
        payment,
        context,
        STATUS_REASON[status],
        operation,
        status=status,
        decline_code=answer.code,
    )
    facts = [Failed(payment, change)] if status is Status.FAILED else []
    return Decision(put(account, payment), [change], facts)


def expire(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: Settle,
    context: Context,
) -> Decided:
    """The voided payment: its authorisation has expired at the processor.

    Another payment of the attempt may be made.
    """
    if not may(payment.status, Status.VOIDED):
        return contradicted(account, payment, command, context)
    reason, status = Reason.AUTHORIZATION_EXPIRED, Status.VOIDED
    payment, change = changed(payment, context, reason, operation, status=status)
    return Decision(put(account, payment), [change])


def is_final(account: Account, payment: Payment, answer: Declined) -> bool:
    """Whether no other try may follow for the payment's attempt: its code says so, or it is the
    third that a card has declined.
    """
    if answer.code in UNCOUNTED:
        return False
    before = [
        p for p in account.payments if p.attempt == payment.attempt and p.status is Status.DECLINED
    ]
    return answer.final or sum(p.decline_code not in UNCOUNTED for p in before) + 1 >= DECLINES_MAX


def lose_answer(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: LoseAnswer,
    context: Context,
) -> Decided:
    """The operation with an unknown outcome."""
    if operation.outcome is not Outcome.REQUESTED:
        return Decision(account)
    ask_time = context.time + command.ask_after
    lost = replace(operation, outcome=Outcome.UNKNOWN, ask_time=ask_time)
    payment, change = changed(payment, context, Reason.ANSWER_LOST, lost)
    return Decision(put(account, payment), [change])


def ask_again(
    account: Account,
    payment: Payment,
    operation: Operation,
    command: AskAgain,
    context: Context,
) -> Decided:
    """The operation with its next time of asking: no version or history, for no reader sees it."""
    if operation.outcome not in OPEN or operation.asks >= command.ask:
        return Decision(account)
    asking = replace(operation, asks=command.ask, ask_time=context.time + command.ask_after)
    return Decision(put(account, with_operation(payment, asking)))
