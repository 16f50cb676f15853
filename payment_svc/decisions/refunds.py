"""Refunds that somebody asks for, and those of accepted returns. Together with all others never more than was captured. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred, NotFound, Refused, illegal
from payment_svc.decisions.steps import Decided, cannot_become, changed, check_version, going_back, named, put, refunding, request
from payment_svc.lifecycle import CHARGED, Cause, Kind, Outcome, Reason, Status
from payment_svc.model import NOTHING_REFUNDABLE, Account, Command, Operation, Payment, RefundPayment, RefundReturn, RefundSettled


def by_request(account: Account | None, command: RefundPayment, now: datetime) -> Decided:
    account, payment = named(account, command)
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    check_version(payment, command)
    if payment.status not in CHARGED:
        raise cannot_become(payment, Status.REFUNDED)
    if command.amount and command.amount.currency != payment.currency:
        raise foreign(payment)
    if command.return_id:
        return again(account, payment, command, command.return_id, now)
    amount = command.amount.minor if command.amount else payment.refundable
    if not 0 < amount <= payment.refundable:
        raise exceeding(payment)
    payment, change = refunding(payment, request(command, Kind.REFUND, amount, now), command, now)
    return Decision(put(account, payment), [change])


def again(account: Account, payment: Payment, command: RefundPayment, return_id: str, now: datetime) -> Decided:
    """Another try for a return whose last refund the processor has refused: what its units are worth, or what is left.

    Where all has gone back meanwhile this one fails like a first one would, and with it the return ends.
    """
    tries = refunds_of(payment, return_id)
    if not tries or any(o.outcome is not Outcome.FAILED or o.failure_code == NOTHING_REFUNDABLE for o in tries):
        status = (tries[-1].failure_code or tries[-1].outcome) if tries else "none"
        text = f"The processor must have refused the last refund of return {return_id}: it is {status}."
        raise illegal(text, status, payment_id=str(payment.id))
    worth = max(o.amount for o in tries)
    if command.amount and command.amount.minor != worth:
        text = f"The return is refunded with {payment.money(worth)}, and {command.amount} was asked for."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(payment.money(worth)), payment_id=str(payment.id))
    amount = min(worth, payment.refundable)
    if amount < worth and (command.amount or payment.refund_pending):
        raise exceeding(payment)  # more than is left, by name; or what is on its way may come free yet
    operation = replace(request(command, Kind.REFUND, amount, now), cause=Cause.RETURN, cause_id=f"{return_id}:{len(tries) + 1}")
    return begun(account, payment, operation, command, now)


def of_return(account: Account | None, command: RefundReturn, now: datetime) -> Decided:
    """Once for each return: what its units are worth, or what is left. Where nothing is, that is a failed refund of zero."""
    payment = account.live_of(command.attempt) if account else None
    if account is None or payment is None:
        text = f"No payment for attempt {command.attempt} of order {command.target} is known."
        raise NotFound("PAYMENT_NOT_FOUND", text, order_id=str(command.target))
    if payment.status in (Status.PENDING, Status.AUTHORIZED):
        raise Deferred("EVENT_AHEAD", "The return's order is not paid yet, as far as is known here.", payment_id=str(payment.id))
    if refunds_of(payment, command.return_id):
        return Decision(account)
    if command.amount.currency != payment.currency:
        raise foreign(payment)
    amount = min(command.amount.minor, payment.refundable)
    return begun(account, payment, going_back(payment, Kind.REFUND, amount, Cause.RETURN, command.return_id, now), command, now)


def begun(account: Account, payment: Payment, operation: Operation, command: Command, now: datetime) -> Decided:
    """A return's refund, requested; of zero, it has failed before anybody is asked."""
    if operation.amount:
        payment, change = refunding(payment, operation, command, now)
        return Decision(put(account, payment), [change])
    operation = replace(operation, outcome=Outcome.FAILED, failure_code=NOTHING_REFUNDABLE, ask_time=None, settle_time=now)
    payment, change = changed(payment, command, now, Reason.NOTHING_REFUNDABLE, operation)
    return Decision(put(account, payment), [change], [RefundSettled(payment, change, payment.refund(operation))])


def refunds_of(payment: Payment, return_id: str) -> list[Operation]:
    """The return's refunds, oldest first: the first is named as the return is, each further try with its number."""
    return [o for o in payment.operations if o.cause is Cause.RETURN and o.cause_id and o.cause_id.partition(":")[0] == return_id]


def exceeding(payment: Payment) -> Refused:
    left = payment.money(payment.refundable)
    text = f"Of what was captured {left} is left to refund."
    return Refused("REFUND_EXCEEDS_CAPTURE", text, refundable=str(left), payment_id=str(payment.id))


def foreign(payment: Payment) -> Refused:
    text = f"The payment is in {payment.currency}, and another currency was asked for."
    return Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=payment.currency, payment_id=str(payment.id))
