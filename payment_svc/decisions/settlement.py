"""What processors tell of what they were asked, and how they are asked again. Pure."""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from chassis.decision import Decision
from chassis.errors import NotFound
from payment_svc.decisions.contradictions import contradicted
from payment_svc.decisions.steps import Decided, changed, put, with_operation
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
    RefundSettled,
    Settle,
    Succeeded,
)

DECLINES_MAX = 3  # the third one is final, whatever its code


def settle(account: Account, payment: Payment, operation: Operation, command: Settle, now: datetime) -> Decided:
    if command.reused:
        return contradicted(account, payment, command, now)
    match command.answer:
        case Awaited(reference):
            if operation.outcome not in OPEN or operation.reference:
                return Decision(account)
            payment, change = changed(payment, command, now, Reason.AWAITED, replace(operation, reference=reference))
            return Decision(put(account, payment), [change])
        case Succeeded(reference):
            if operation.outcome is Outcome.SUCCEEDED and operation.reference == reference:
                return Decision(account)
            if operation.outcome not in OPEN:
                return contradicted(account, payment, command, now)
            done = replace(operation, outcome=Outcome.SUCCEEDED, reference=reference, settle_time=now, ask_time=None)
            return succeed(account, payment, done, command, now)
        case Declined() as answer:
            if operation.outcome is Outcome.FAILED:
                return Decision(account)
            if operation.outcome not in OPEN:
                return contradicted(account, payment, command, now)
            failed = replace(operation, outcome=Outcome.FAILED, failure_code=answer.code, settle_time=now, ask_time=None)
            failed = replace(failed, reference=answer.reference or operation.reference)
            return decline(account, payment, failed, answer, command, now)


def succeed(account: Account, payment: Payment, operation: Operation, command: Settle, now: datetime) -> Decided:
    match operation.kind:
        case Kind.REFUND:
            return refunded(account, payment, operation, command, now)
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
        return contradicted(account, payment, command, now)
    payment, change = changed(payment, command, now, STATUS_REASON[status], operation, status=status, **amounts)
    return Decision(put(account, payment), [change], [Confirmed(payment, change)] if status is Status.CAPTURED else [])


def refunded(account: Account, payment: Payment, operation: Operation, command: Settle, now: datetime) -> Decided:
    refunded = payment.refunded + operation.amount
    status = after_refund(payment.captured, refunded)
    if status is not payment.status and not may(payment.status, status):
        return contradicted(account, payment, command, now)
    left = payment.refund_pending - operation.amount
    payment, change = changed(
        payment, command, now, STATUS_REASON[status], operation, status=status, refunded=refunded, refund_pending=left
    )
    return Decision(put(account, payment), [change], [RefundSettled(payment, change, payment.refund(operation))])


def decline(account: Account, payment: Payment, operation: Operation, answer: Declined, command: Settle, now: datetime) -> Decided:
    if operation.kind is Kind.REFUND:  # the money stays with us, and is free for another refund
        left = payment.refund_pending - operation.amount
        payment, change = changed(payment, command, now, DECLINE_REASON[Kind.REFUND], operation, refund_pending=left)
        return Decision(put(account, payment), [change], [RefundSettled(payment, change, payment.refund(operation))])
    if operation.kind in (Kind.CAPTURE, Kind.VOID):
        if answer.code == AUTHORIZATION_EXPIRED:  # nothing is set aside any more
            return expire(account, payment, operation, command, now)
        # What was set aside stays so, and may be captured or voided again.
        payment, change = changed(payment, command, now, DECLINE_REASON[operation.kind], operation)
        return Decision(put(account, payment), [change])
    status = Status.FAILED if is_final(account, payment, answer) else Status.DECLINED
    if not may(payment.status, status):
        return contradicted(account, payment, command, now)
    payment, change = changed(payment, command, now, STATUS_REASON[status], operation, status=status, decline_code=answer.code)
    return Decision(put(account, payment), [change], [Failed(payment, change)] if status is Status.FAILED else [])


def expire(account: Account, payment: Payment, operation: Operation, command: Settle, now: datetime) -> Decided:
    """An authorisation that has expired at the processor counts as voided: another payment may be made for the attempt."""
    if not may(payment.status, Status.VOIDED):
        return contradicted(account, payment, command, now)
    payment, change = changed(payment, command, now, Reason.AUTHORIZATION_EXPIRED, operation, status=Status.VOIDED)
    return Decision(put(account, payment), [change])


def is_final(account: Account, payment: Payment, answer: Declined) -> bool:
    """Whether no other try may follow for the payment's attempt: its code says so, or it is the third that a card has declined."""
    if answer.code in UNCOUNTED:
        return False
    before = [p for p in account.payments if p.attempt == payment.attempt and p.status is Status.DECLINED]
    return answer.final or sum(p.decline_code not in UNCOUNTED for p in before) + 1 >= DECLINES_MAX


def lose_answer(account: Account, payment: Payment, operation: Operation, command: LoseAnswer, now: datetime) -> Decided:
    if operation.outcome is not Outcome.REQUESTED:
        return Decision(account)
    lost = replace(operation, outcome=Outcome.UNKNOWN, ask_time=now + command.ask_after)
    payment, change = changed(payment, command, now, Reason.ANSWER_LOST, lost)
    return Decision(put(account, payment), [change])


def ask_again(account: Account, payment: Payment, operation: Operation, command: AskAgain, now: datetime) -> Decided:
    if operation.outcome not in OPEN or operation.asks >= command.ask:
        return Decision(account)
    asking = replace(operation, asks=command.ask, ask_time=now + command.ask_after)
    return Decision(put(account, with_operation(payment, asking)))  # nothing that anybody sees has changed: no version, no history


def named_operation(account: Account | None, command: Settle | LoseAnswer | AskAgain) -> tuple[Account, Payment, Operation]:
    """The account with the payment and the operation that a command is about. Raises NotFound where there is none."""
    payment = account.of_operation(command.operation_id) if account else None
    operation = payment.operation(command.operation_id) if payment else None
    if account is None or payment is None or operation is None:
        text = f"No payment has asked for operation {command.operation_id}."
        raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(command.operation_id))
    return account, payment, operation
