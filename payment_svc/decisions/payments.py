"""Create, capture and void: the operations that are stored before the processor is called. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Exists, NotFound, Refused
from payment_svc.decisions.orders import not_required_payment, with_newer_order
from payment_svc.decisions.steps import (
    Decided,
    check_operation_limit,
    illegal_transition,
    new_payment,
    next_version,
    requested_operation,
    with_payment,
)
from payment_svc.lifecycle import REQUEST_REASON, STATUS_AFTER_SUCCESS, Kind, OrderStatus, Status
from payment_svc.model.commands import CapturePayment, CreatePayment, VoidPayment
from payment_svc.model.records import Account, Operation, Payment


def create(account: Account | None, command: CreatePayment, context: Context) -> Decided:
    """Adds a payment and the operation that charges or authorises it.

    A request whose payment exists changes nothing: its idempotency key was deleted in the
    meantime, or the order costs nothing and has the payment of its event.
    Raises NotFound ORDER_NOT_FOUND where neither the account nor the command has the order.
    """
    account = with_newer_order(account, command.order)
    if account is None:
        text = f"There is no order {context.target}."
        raise NotFound("ORDER_NOT_FOUND", text, order_id=str(context.target))
    if account.requested_by(command.operation.requested_by):
        return Decision(account)
    is_free = not account.order.total.minor
    if is_free and account.live_payment and account.live_payment.status is Status.NOT_REQUIRED:
        return Decision(account)
    check_payable(account, command)
    if is_free:
        return not_required_payment(account, command.payment_id, context)
    unpaid = new_payment(account, command.payment_id, context, processor=command.processor)
    kind = Kind.AUTHORIZE if command.manual_capture else Kind.CHARGE
    operation = requested_operation(command.operation, kind, unpaid.amount, context)
    payment, transition = next_version(unpaid, context, REQUEST_REASON[kind], operation)
    return Decision(with_payment(account, payment), [transition])


def check_payable(account: Account, command: CreatePayment) -> None:
    """Refuses a second payment, one for an order that is not pending, and another amount than the
    order's total.
    """
    order, live = account.order, account.live_payment
    if live and live.status is not Status.FAILED:
        raise Exists(
            "PAYMENT_ALREADY_EXISTS",
            "This attempt of the order has a live payment.",
            payment_id=str(live.id),
        )
    if live:
        text = "Payment for this attempt of the order has finally failed."
        raise Refused("ORDER_NOT_PAYABLE", text, status=order.status, payment_id=str(live.id))
    if order.status is not OrderStatus.PENDING:
        raise Refused(
            "ORDER_NOT_PAYABLE",
            f"The order is {order.status} and waits for no payment.",
            status=order.status,
        )
    if command.expected and command.expected != order.total:
        text = f"The order costs {order.total}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(order.total))


def capture(
    account: Account,
    payment: Payment,
    command: CapturePayment,
    context: Context,
) -> Decided:
    """Requests the capture of what the order costs now, out of what is authorised.

    While another capture is open nothing changes: both callers wait for capture_amount answer.
    """
    account = with_newer_order(account, command.order)
    open_operation = open_operation_of_kind(payment, Kind.CAPTURE)
    amount = min(payment.authorized, account.amount_due(payment))
    if open_operation:
        amount = open_operation.amount
    capture_amount = payment.money(amount)
    if command.expected not in (None, capture_amount):
        text = f"The capture takes {capture_amount}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(capture_amount))
    if open_operation:
        return Decision(account)
    if not amount:
        raise Refused(
            "ORDER_NOT_PAYABLE",
            "The order costs nothing any more: nothing is captured for it.",
            status=account.order.status,
            payment_id=str(payment.id),
        )
    operation = requested_operation(command.operation, Kind.CAPTURE, amount, context)
    check_operation_limit(payment, operation)
    reason, version = REQUEST_REASON[Kind.CAPTURE], account.order.version
    payment, transition = next_version(payment, context, reason, operation, order_version=version)
    return Decision(with_payment(account, payment), [transition])


def void(account: Account, payment: Payment, command: VoidPayment, context: Context) -> Decided:
    """Requests that the whole authorisation is voided.

    While another void is open nothing changes: both callers wait for capture_amount answer.
    """
    if open_operation_of_kind(payment, Kind.VOID):
        return Decision(account)
    operation = requested_operation(command.operation, Kind.VOID, payment.authorized, context)
    check_operation_limit(payment, operation)
    payment, transition = next_version(payment, context, REQUEST_REASON[Kind.VOID], operation)
    return Decision(with_payment(account, payment), [transition])


def open_operation_of_kind(payment: Payment, kind: Kind) -> Operation | None:
    """The open capture or void of an authorised payment, which has one open operation at most.

    Raises Refused ILLEGAL_TRANSITION where the payment is not authorised, or the other one is open.
    """
    operation = payment.open_operation
    if payment.status is not Status.AUTHORIZED or (operation and operation.kind is not kind):
        raise illegal_transition(payment, STATUS_AFTER_SUCCESS[kind])
    return operation
