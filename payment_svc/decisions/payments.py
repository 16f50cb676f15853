"""Paying: the intents to charge, to capture and to void, written before a processor is asked. Pure."""

from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Exists, NotFound, Refused
from payment_svc.decisions.orders import known, nothing_to_pay
from payment_svc.decisions.steps import Decided, cannot_become, changed, check_version, named, new_payment, put, request
from payment_svc.lifecycle import REQUEST_REASON, SUCCESS_MEANS, Kind, OrderStatus, Status
from payment_svc.model import Account, CapturePayment, CreatePayment, VoidPayment


def create(account: Account | None, command: CreatePayment, now: datetime) -> Decided:
    account = known(account, command.order)
    if account is None:
        raise NotFound("ORDER_NOT_FOUND", f"There is no order {command.target}.", order_id=str(command.target))
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    free = not account.order.total.minor
    if free and account.live and account.live.status is Status.NOT_REQUIRED:
        return Decision(account)  # the payment that it got by itself
    check_payable(account, command)
    if free:
        return nothing_to_pay(account, command, now)
    unpaid = new_payment(account, command, now, processor=command.processor)
    kind = Kind.AUTHORIZE if command.manual_capture else Kind.CHARGE
    operation = request(command, kind, unpaid.amount, now)
    payment, change = changed(unpaid, command, now, REQUEST_REASON[kind], operation)
    return Decision(put(account, payment), [change])


def check_payable(account: Account, command: CreatePayment) -> None:
    """Refuses what the order does not wait for: a second payment, one for a dead order, another amount than its total."""
    order, live = account.order, account.live
    if live and live.status is not Status.FAILED:
        raise Exists("PAYMENT_ALREADY_EXISTS", "This attempt of the order has a live payment.", payment_id=str(live.id))
    if live:
        text = "Payment for this attempt of the order has finally failed."
        raise Refused("ORDER_NOT_PAYABLE", text, status=order.status, payment_id=str(live.id))
    if order.status is not OrderStatus.PENDING:
        raise Refused("ORDER_NOT_PAYABLE", f"The order is {order.status} and waits for no payment.", status=order.status)
    if command.expected and command.expected != order.total:
        text = f"The order costs {order.total}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(order.total))


def on_authorized(account: Account | None, command: CapturePayment | VoidPayment, kind: Kind, now: datetime) -> Decided:
    """What was set aside is to be taken (capture: what the order costs by now) or given back (void): one of them at a time."""
    account, payment = named(account, command)
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    check_version(payment, command)
    if isinstance(command, CapturePayment):
        account = known(account, command.order)
    under_way = payment.open_operation
    if payment.status is not Status.AUTHORIZED or (under_way and under_way.kind is not kind):
        raise cannot_become(payment, SUCCESS_MEANS[kind])
    amount = min(payment.authorized, account.due(payment)) if kind is Kind.CAPTURE else payment.authorized
    if under_way:
        amount = under_way.amount
    if isinstance(command, CapturePayment) and command.expected not in (None, payment.money(amount)):
        text = f"The capture takes {payment.money(amount)}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(payment.money(amount)))
    if under_way:
        return Decision(account)  # another request is at it: both wait for the one answer
    if not amount:
        text = "The order costs nothing any more: nothing is captured for it."
        raise Refused("ORDER_NOT_PAYABLE", text, status=account.order.status, payment_id=str(payment.id))
    operation = request(command, kind, amount, now)
    version = account.order.version if kind is Kind.CAPTURE else payment.order_version
    payment, change = changed(payment, command, now, REQUEST_REASON[kind], operation, order_version=version)
    return Decision(put(account, payment), [change])
