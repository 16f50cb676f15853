"""Create, capture and void: what is stored before a processor is asked. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Exists, NotFound, Refused
from payment_svc.decisions.orders import known, nothing_to_pay
from payment_svc.decisions.steps import (
    Decided,
    cannot_become,
    changed,
    check_requests,
    new_payment,
    put,
    request,
)
from payment_svc.lifecycle import REQUEST_REASON, SUCCESS_MEANS, Kind, OrderStatus, Status
from payment_svc.model import (
    Account,
    CapturePayment,
    CreatePayment,
    Operation,
    Payment,
    VoidPayment,
)


def create(account: Account | None, command: CreatePayment, context: Context) -> Decided:
    """Adds a payment and the operation that charges or authorises it.

    A request whose payment is there changes nothing: its idempotency key was deleted in the
    meantime, or the order costs nothing and has the payment of its event.
    Raises NotFound ORDER_NOT_FOUND where neither the account nor the command has the order.
    """
    account = known(account, command.order)
    if account is None:
        text = f"There is no order {context.target}."
        raise NotFound("ORDER_NOT_FOUND", text, order_id=str(context.target))
    if account.requested_by(command.operation.requested_by):
        return Decision(account)
    free = not account.order.total.minor
    if free and account.live and account.live.status is Status.NOT_REQUIRED:
        return Decision(account)
    check_payable(account, command)
    if free:
        return nothing_to_pay(account, command.payment_id, context)
    unpaid = new_payment(account, command.payment_id, context, processor=command.processor)
    kind = Kind.AUTHORIZE if command.manual_capture else Kind.CHARGE
    operation = request(command.operation, kind, unpaid.amount, context)
    payment, change = changed(unpaid, context, REQUEST_REASON[kind], operation)
    return Decision(put(account, payment), [change])


def check_payable(account: Account, command: CreatePayment) -> None:
    """Refuses what the order does not wait for: a second payment, one for a dead order, another
    amount than its total.
    """
    order, live = account.order, account.live
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

    While another capture is open nothing changes: both callers wait for its answer.
    """
    account = known(account, command.order)
    open_operation = open_of_kind(payment, Kind.CAPTURE)
    amount = min(payment.authorized, account.due(payment))
    if open_operation:
        amount = open_operation.amount
    its = payment.money(amount)
    if command.expected not in (None, its):
        text = f"The capture takes {its}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(its))
    if open_operation:
        return Decision(account)
    if not amount:
        raise Refused(
            "ORDER_NOT_PAYABLE",
            "The order costs nothing any more: nothing is captured for it.",
            status=account.order.status,
            payment_id=str(payment.id),
        )
    operation = request(command.operation, Kind.CAPTURE, amount, context)
    check_requests(payment, operation)
    reason, version = REQUEST_REASON[Kind.CAPTURE], account.order.version
    payment, change = changed(payment, context, reason, operation, order_version=version)
    return Decision(put(account, payment), [change])


def void(account: Account, payment: Payment, command: VoidPayment, context: Context) -> Decided:
    """Requests that the whole authorisation is voided.

    While another void is open nothing changes: both callers wait for its answer.
    """
    if open_of_kind(payment, Kind.VOID):
        return Decision(account)
    operation = request(command.operation, Kind.VOID, payment.authorized, context)
    check_requests(payment, operation)
    payment, change = changed(payment, context, REQUEST_REASON[Kind.VOID], operation)
    return Decision(put(account, payment), [change])


def open_of_kind(payment: Payment, kind: Kind) -> Operation | None:
    """The open capture or void of an authorised payment, which has one open operation at most.

    Raises Refused ILLEGAL_TRANSITION where the payment is not authorised, or the other one is open.
    """
    operation = payment.open_operation
    if payment.status is not Status.AUTHORIZED or (operation and operation.kind is not kind):
        raise cannot_become(payment, SUCCESS_MEANS[kind])
    return operation
