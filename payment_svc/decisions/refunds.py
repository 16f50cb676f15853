"""Refunds that somebody asks for, and those of accepted returns. Together with all others never more than was captured. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred, NotFound, Refused
from payment_svc.decisions.records import Decided, changed, check_version, going_back, illegal, named, put, refunding, request
from payment_svc.lifecycle import CHARGED, Cause, Kind, Outcome, Status
from payment_svc.model import NOTHING_REFUNDABLE, Account, Payment, RefundPayment, RefundReturn, RefundSettled


def by_request(account: Account | None, command: RefundPayment, now: datetime) -> Decided:
    account, payment = named(account, command)
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    check_version(payment, command)
    if payment.status not in CHARGED:
        raise illegal(payment, Status.REFUNDED)
    if command.amount and command.amount.currency != payment.currency:
        raise foreign(payment)
    amount = command.amount.minor if command.amount else payment.refundable
    if not 0 < amount <= payment.refundable:
        left = payment.money(payment.refundable)
        text = f"Of what was captured {left} is left to refund."
        raise Refused("REFUND_EXCEEDS_CAPTURE", text, refundable=str(left), payment_id=str(payment.id))
    payment, change = refunding(payment, request(command, Kind.REFUND, amount, now), command, now)
    return Decision(put(account, payment), [change])


def of_return(account: Account | None, command: RefundReturn, now: datetime) -> Decided:
    """Once for each return: what its units are worth, or what is left. Where nothing is, that is a failed refund of zero."""
    payment = account.live_of(command.attempt) if account else None
    if account is None or payment is None:
        text = f"No payment for attempt {command.attempt} of order {command.target} is known."
        raise NotFound("PAYMENT_NOT_FOUND", text, order_id=str(command.target))
    if payment.status in (Status.PENDING, Status.AUTHORIZED):
        raise Deferred("EVENT_AHEAD", "The return's order is not paid yet, as far as is known here.", payment_id=str(payment.id))
    if any(o.cause is Cause.RETURN and o.cause_id == command.return_id for o in payment.operations):
        return Decision(account)
    if command.amount.currency != payment.currency:
        raise foreign(payment)
    amount = min(command.amount.minor, payment.refundable)
    operation = going_back(payment, Kind.REFUND, amount, Cause.RETURN, command.return_id, now)
    if amount:
        payment, change = refunding(payment, operation, command, now)
        return Decision(put(account, payment), [change])
    operation = replace(operation, outcome=Outcome.FAILED, failure_code=NOTHING_REFUNDABLE, ask_time=None, settle_time=now)
    payment, change = changed(payment, command, now, "NOTHING_REFUNDABLE", operation)
    return Decision(put(account, payment), [change], [RefundSettled(payment, payment.refund(operation))])


def foreign(payment: Payment) -> Refused:
    text = f"The payment is in {payment.currency}, and another currency was asked for."
    return Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=payment.currency, payment_id=str(payment.id))
