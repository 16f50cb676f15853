"""Refunds by request, and refunds of returns. All refunds of a payment together never exceed what
was captured. Pure.
"""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, NotFound, Refused, illegal
from payment_svc.decisions.transitions import (
    Decided,
    automatic_operation,
    change_payment,
    illegal_transition,
    requested_operation,
)
from payment_svc.lifecycle import CHARGED, REQUEST_REASON, Cause, Kind, Outcome, Reason, Status
from payment_svc.model.answers import NOTHING_REFUNDABLE
from payment_svc.model.commands import RefundPayment, RefundReturn
from payment_svc.model.records import Account, Operation, Payment


def refund_by_request(
    account: Account,
    payment: Payment,
    command: RefundPayment,
    context: Context,
) -> Decided:
    """Requests the refund of an amount, of all that is left, or of a return.

    Raises Refused REFUND_EXCEEDS_CAPTURE for more than is left.
    """
    if payment.status not in CHARGED:
        raise illegal_transition(payment, Status.REFUNDED)
    if command.amount and command.amount.currency != payment.currency:
        raise currency_mismatch(payment)
    if command.return_id:
        return retry_return_refund(account, payment, command, command.return_id, context)
    amount = command.amount.minor if command.amount else payment.refundable
    if not 0 < amount <= payment.refundable:
        raise refund_exceeds_capture(payment)
    operation = requested_operation(
        payment,
        command.operation,
        Kind.REFUND,
        amount,
        context,
        cause=Cause.REQUEST,
        cause_id=context.cause,
    )
    return change_payment(account, payment, context, REQUEST_REASON[Kind.REFUND], operation)


def retry_return_refund(
    account: Account,
    payment: Payment,
    command: RefundPayment,
    return_id: str,
    context: Context,
) -> Decided:
    """Requests another refund of a return whose last one the processor has declined.

    The amount is that of the return, or what is left of the captured money. Where nothing is left,
    the refund fails at once, as a first one does, and order closes the return.
    """
    refunds = refunds_of_return(payment, return_id)
    if not refunds or any(
        o.outcome is not Outcome.FAILED or o.failure_code == NOTHING_REFUNDABLE for o in refunds
    ):
        status = (refunds[-1].failure_code or refunds[-1].outcome) if refunds else "none"
        text = (
            f"The processor must have refused the last refund of return {return_id}: it is"
            f" {status}."
        )
        raise illegal(text, status, payment_id=str(payment.id))
    return_amount = max(o.amount for o in refunds)
    if command.amount and command.amount.minor != return_amount:
        text = (
            f"The return is refunded with {payment.money(return_amount)}, and {command.amount} was"
            " asked for."
        )
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            text,
            expected=str(payment.money(return_amount)),
            payment_id=str(payment.id),
        )
    amount = min(return_amount, payment.refundable)
    if amount < return_amount and (command.amount or payment.refund_pending):
        # more than remains was requested; or a pending refund may fail and free its amount
        raise refund_exceeds_capture(payment)
    operation = requested_operation(
        payment,
        command.operation,
        Kind.REFUND,
        amount,
        context,
        cause=Cause.RETURN,
        cause_id=f"{return_id}:{len(refunds) + 1}",
    )
    return request_return_refund(account, payment, operation, context)


def refund_return(account: Account | None, command: RefundReturn, context: Context) -> Decided:
    """Requests the refund of a return, once: its amount, or what is left of the captured money.

    Where nothing is left, this is a failed refund of zero. Raises Deferred EVENT_AHEAD while the
    attempt is not paid.
    """
    payment = account.live_payment_of(command.attempt) if account else None
    if account is None or payment is None:
        text = f"No payment for attempt {command.attempt} of order {context.target} is known."
        raise NotFound("PAYMENT_NOT_FOUND", text, order_id=str(context.target))
    if payment.status in (Status.PENDING, Status.AUTHORIZED):
        raise Deferred(
            "EVENT_AHEAD",
            "The return's order is not paid yet, as far as is known here.",
            payment_id=str(payment.id),
        )
    if refunds_of_return(payment, command.return_id):
        return Decision(account)
    if command.amount.currency != payment.currency:
        raise currency_mismatch(payment)
    amount = min(command.amount.minor, payment.refundable)
    operation = automatic_operation(
        payment, Kind.REFUND, amount, Cause.RETURN, command.return_id, context
    )
    return request_return_refund(account, payment, operation, context)


def request_return_refund(
    account: Account,
    payment: Payment,
    operation: Operation,
    context: Context,
) -> Decided:
    """A return's requested refund; one of zero fails at once, and no processor is called."""
    if operation.amount:
        return change_payment(account, payment, context, REQUEST_REASON[Kind.REFUND], operation)
    failed = replace(
        operation,
        outcome=Outcome.FAILED,
        failure_code=NOTHING_REFUNDABLE,
        next_lookup_time=None,
        settle_time=context.time,
    )
    return change_payment(account, payment, context, Reason.NOTHING_REFUNDABLE, failed)


def refunds_of_return(payment: Payment, return_id: str) -> list[Operation]:
    """The return's refunds, oldest first. The `cause_id` is the return's id; of each further try it
    is followed by the number of the try, as in `id:2`.
    """
    return [
        o
        for o in payment.operations
        if o.cause is Cause.RETURN and o.cause_id and o.cause_id.partition(":")[0] == return_id
    ]


def refund_exceeds_capture(payment: Payment) -> Refused:
    remaining = payment.money(payment.refundable)
    text = f"Of what was captured {remaining} is left to refund."
    return Refused(
        "REFUND_EXCEEDS_CAPTURE", text, refundable=str(remaining), payment_id=str(payment.id)
    )


def currency_mismatch(payment: Payment) -> Refused:
    text = f"The payment is in {payment.currency}, and another currency was asked for."
    return Refused(
        "PAYMENT_AMOUNT_MISMATCH", text, expected=payment.currency, payment_id=str(payment.id)
    )
