"""Create, capture and void: the operations that are stored before the processor is called. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Exists, NotFound, Refused
from payment_svc.decisions.orders import not_required_payment, with_newer_order
from payment_svc.decisions.transitions import (
    Decided,
    change_payment,
    illegal_transition,
    new_payment,
    requested_operation,
)
from payment_svc.lifecycle import (
    ORDER_PENDING,
    REQUEST_REASON,
    STATUS_AFTER_SUCCESS,
    Cause,
    Kind,
    Status,
)
from payment_svc.model.commands import CapturePayment, CreatePayment, VoidPayment
from payment_svc.model.records import Account, Operation, Payment


def create(account: Account | None, command: CreatePayment, context: Context) -> Decided:
    """Adds a payment and the operation that charges or authorises it.

    Nothing changes where the order's total is zero and its not-required payment exists.
    Raises NotFound ORDER_NOT_FOUND where neither the account nor the command has the order.
    """
    if command.order:
        account = with_newer_order(account, command.order)
    if account is None:
        text = f"There is no order {context.target}."
        raise NotFound("ORDER_NOT_FOUND", text, order_id=str(context.target))
    is_free = not account.order.total.minor
    if is_free and account.live_payment and account.live_payment.status is Status.NOT_REQUIRED:
        return Decision(account)
    check_payable(account, command)
    if is_free:
        return not_required_payment(account, command.payment_id, context)
    unpaid = new_payment(account, command.payment_id, context, processor=command.processor)
    kind = Kind.AUTHORIZE if command.manual_capture else Kind.CHARGE
    operation = requested_operation(unpaid, command.operation, kind, unpaid.amount, context)
    return change_payment(account, unpaid, context, REQUEST_REASON[kind], operation)


def check_payable(account: Account, command: CreatePayment) -> None:
    """Raises Exists or Refused: for a second payment of the attempt, for an order that is not
    pending, and for another amount than the order's total.
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
    if order.status != ORDER_PENDING:
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

    While another capture is open nothing changes: both callers wait for its answer.
    """
    if command.order:
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
    operation = requested_operation(payment, command.operation, Kind.CAPTURE, amount, context)
    reason, version = REQUEST_REASON[Kind.CAPTURE], account.order.version
    return change_payment(account, payment, context, reason, operation, order_version=version)


def void(account: Account, payment: Payment, command: VoidPayment, context: Context) -> Decided:
    """Requests that the whole authorisation is voided.

    While another void is open nothing changes: both callers wait for its answer.
    """
    if open_operation_of_kind(payment, Kind.VOID):
        return Decision(account)
    operation = requested_operation(
        payment,
        command.operation,
        Kind.VOID,
        payment.authorized,
        context,
        cause=Cause.REQUEST,
        cause_id=context.cause,
    )
    return change_payment(account, payment, context, REQUEST_REASON[Kind.VOID], operation)


def open_operation_of_kind(payment: Payment, kind: Kind) -> Operation | None:
    """The open capture or void of an authorised payment, which has one open operation at most.

    Raises Refused ILLEGAL_TRANSITION where the payment is not authorised, or the other one is open.
    """
    operation = payment.open_operation
    if payment.status is not Status.AUTHORIZED or (operation and operation.kind is not kind):
        raise illegal_transition(payment, STATUS_AFTER_SUCCESS[kind])
    return operation
