"""Refunds that somebody asks for, and those of accepted returns. Together with all others never
more than was captured. Pure.
"""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, NotFound, Refused, illegal
from payment_svc.decisions.steps import (
    Decided,
    cannot_become,
    changed,
    check_requests,
    going_back,
    put,
    refund_settled,
    refunding,
    request,
)
from payment_svc.lifecycle import CHARGED, Cause, Kind, Outcome, Reason, Status
from payment_svc.model import (
    NOTHING_REFUNDABLE,
    Account,
    Operation,
    Payment,
    RefundPayment,
    RefundReturn,
)


def by_request(
    account: Account,
    payment: Payment,
    command: RefundPayment,
    context: Context,
) -> Decided:
    """Requests the refund of an amount, of all that is left, or of a return.

    Raises Refused REFUND_EXCEEDS_CAPTURE for more than is left.
    """
    if payment.status not in CHARGED:
        raise cannot_become(payment, Status.REFUNDED)
    if command.amount and command.amount.currency != payment.currency:
        raise foreign(payment)
    if command.return_id:
        return again(account, payment, command, command.return_id, context)
    amount = command.amount.minor if command.amount else payment.refundable
    if not 0 < amount <= payment.refundable:
        raise exceeding(payment)
    operation = request(command.operation, Kind.REFUND, amount, context)
    check_requests(payment, operation)
    payment, change = refunding(payment, operation, context)
    return Decision(put(account, payment), [change])


def again(
    account: Account,
    payment: Payment,
    command: RefundPayment,
    return_id: str,
    context: Context,
) -> Decided:
    """Another refund of a return whose last one the processor has declined.

    It is of what the units are worth, or of what is left. Where nothing is left it fails, as a
    first refund would, and the return is closed.
    """
    tries = refunds_of(payment, return_id)
    if not tries or any(
        o.outcome is not Outcome.FAILED or o.failure_code == NOTHING_REFUNDABLE for o in tries
    ):
        status = (tries[-1].failure_code or tries[-1].outcome) if tries else "none"
        text = (
            f"The processor must have refused the last refund of return {return_id}: it is"
            f" {status}."
        )
        raise illegal(text, status, payment_id=str(payment.id))
    worth = max(o.amount for o in tries)
    if command.amount and command.amount.minor != worth:
        text = (
            f"The return is refunded with {payment.money(worth)}, and {command.amount} was asked"
            " for."
        )
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            text,
            expected=str(payment.money(worth)),
            payment_id=str(payment.id),
        )
    amount = min(worth, payment.refundable)
    if amount < worth and (command.amount or payment.refund_pending):
        # more than is left, by name; or what is on its way may come free yet
        raise exceeding(payment)
    requested = request(command.operation, Kind.REFUND, amount, context)
    cause_id = f"{return_id}:{len(tries) + 1}"
    operation = replace(requested, cause=Cause.RETURN, cause_id=cause_id)
    check_requests(payment, operation)
    return begun(account, payment, operation, context)


def of_return(account: Account | None, command: RefundReturn, context: Context) -> Decided:
    """Requests the refund of a return, once: what its units are worth, or what is left.

    Where nothing is left, this is a failed refund of zero.
    """
    payment = account.live_of(command.attempt) if account else None
    if account is None or payment is None:
        text = f"No payment for attempt {command.attempt} of order {context.target} is known."
        raise NotFound("PAYMENT_NOT_FOUND", text, order_id=str(context.target))
    if payment.status in (Status.PENDING, Status.AUTHORIZED):
        raise Deferred(
            "EVENT_AHEAD",
            "The return's order is not paid yet, as far as is known here.",
            payment_id=str(payment.id),
        )
    if refunds_of(payment, command.return_id):
        return Decision(account)
    if command.amount.currency != payment.currency:
        raise foreign(payment)
    amount = min(command.amount.minor, payment.refundable)
    cause_id = command.return_id
    operation = going_back(payment, Kind.REFUND, amount, Cause.RETURN, cause_id, context)
    return begun(account, payment, operation, context)


def begun(
    account: Account,
    payment: Payment,
    operation: Operation,
    context: Context,
) -> Decided:
    """A return's requested refund; one of zero fails at once, and no processor is asked."""
    if operation.amount:
        payment, change = refunding(payment, operation, context)
        return Decision(put(account, payment), [change])
    operation = replace(
        operation,
        outcome=Outcome.FAILED,
        failure_code=NOTHING_REFUNDABLE,
        ask_time=None,
        settle_time=context.time,
    )
    payment, change = changed(payment, context, Reason.NOTHING_REFUNDABLE, operation)
    return refund_settled(account, payment, operation, change)


def refunds_of(payment: Payment, return_id: str) -> list[Operation]:
    """The return's refunds, oldest first: the first is named as the return is, each further try
    with its number.
    """
    return [
        o
        for o in payment.operations
        if o.cause is Cause.RETURN and o.cause_id and o.cause_id.partition(":")[0] == return_id
    ]


def exceeding(payment: Payment) -> Refused:
    left = payment.money(payment.refundable)
    text = f"Of what was captured {left} is left to refund."
    return Refused("REFUND_EXCEEDS_CAPTURE", text, refundable=str(left), payment_id=str(payment.id))


def foreign(payment: Payment) -> Refused:
    text = f"The payment is in {payment.currency}, and another currency was asked for."
    return Refused(
        "PAYMENT_AMOUNT_MISMATCH", text, expected=payment.currency, payment_id=str(payment.id)
    )
