"""How records change: a payment's next version with its row of history, operations in their places. Pure."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid5

from chassis.decision import Decision
from chassis.errors import NotFound, Refused, Stale, illegal
from payment_svc.lifecycle import MOVES, REQUEST_REASON, Cause, Kind, Outcome, Reason, Status
from payment_svc.model import (
    Account,
    CapturePayment,
    Change,
    Command,
    CreatePayment,
    NoteOrder,
    Operation,
    Payment,
    RefundPayment,
    ResolveContradiction,
    Settle,
    VoidPayment,
)

Decided = Decision[Account, Change]
Intent = CapturePayment | VoidPayment | RefundPayment
Request = Intent | ResolveContradiction


def named(account: Account | None, command: Request) -> tuple[Account, Payment]:
    """The account and the payment that a request names. Raises NotFound where there is none."""
    payment = account.payment(command.payment_id) if account else None
    if account is None or payment is None:
        raise NotFound("PAYMENT_NOT_FOUND", f"There is no payment {command.payment_id}.", payment_id=str(command.payment_id))
    return account, payment


def check_version(payment: Payment, command: Request) -> None:
    if command.expected_version not in (None, payment.version):
        raise Stale(expected=str(command.expected_version), actual=str(payment.version))


def new_payment(account: Account, command: NoteOrder | CreatePayment | Settle, now: datetime, *, processor: str) -> Payment:
    """The next try to pay the order's current attempt, before anything has happened to it."""
    return Payment(
        id=command.payment_id,
        order_id=account.order.id,
        attempt=account.order.attempt,
        try_number=len(account.tries) + 1,
        order_version=account.order.version,
        status=Status.PENDING,
        currency=account.order.total.currency,
        amount=account.order.total.minor,
        authorized=0,
        captured=0,
        refunded=0,
        refund_pending=0,
        processor=processor,
        decline_code=None,
        version=0,
        create_time=now,
        update_time=now,
    )


def request(command: CreatePayment | Intent, kind: Kind, amount: int, now: datetime) -> Operation:
    """What somebody asks of the processor; its answer is awaited by whoever asks, and looked for by the settling worker later."""
    its = Operation(command.operation_id, kind, amount, Outcome.REQUESTED, command.key, now, now + command.ask_after)
    return replace(its, cause=Cause.REQUEST, cause_id=command.cause) if isinstance(command, VoidPayment | RefundPayment) else its


def going_back(payment: Payment, kind: Kind, amount: int, cause: Cause, cause_id: str, now: datetime) -> Operation:
    """What is asked of the processor by itself, once for each cause, for ever: id and key are made of it. It is due at once."""
    name = f"{kind}:{cause}:{cause_id}"
    its = Operation(uuid5(payment.id, name), kind, amount, Outcome.REQUESTED, f"{payment.id}:{name}", now, now)
    return replace(its, cause=cause, cause_id=cause_id)


def changed(
    payment: Payment, command: Command, now: datetime, reason: Reason, operation: Operation | None = None, **fields: Any
) -> tuple[Payment, Change]:
    """The payment's next version, with the operation and the fields as they are then, and the row of history that tells of it."""
    old = payment.status if payment.version else None
    payment = replace(payment, version=payment.version + 1, update_time=now, **fields)
    change = Change(
        payment_id=payment.id,
        version=payment.version,
        old=old,
        new=payment.status,
        operation_id=operation.id if operation else None,
        outcome=operation.outcome if operation else None,
        reason=reason,
        actor=command.actor,
        cause=command.cause,
        time=now,
        claimed_actor=command.claimed_actor,
        note=command.note,
    )
    return with_operation(payment, operation) if operation else payment, change


def refunding(payment: Payment, operation: Operation, command: Command, now: datetime) -> tuple[Payment, Change]:
    """The payment's next version, with a refund that is asked for: from then on its amount counts as on its way back."""
    pending = payment.refund_pending + operation.amount
    return changed(payment, command, now, REQUEST_REASON[Kind.REFUND], operation, refund_pending=pending)


def with_operation(payment: Payment, operation: Operation) -> Payment:
    """The payment, with the operation in the place of what it was before, or as its newest."""
    if payment.operation(operation.id) is None:
        return replace(payment, operations=(*payment.operations, operation))
    return replace(payment, operations=tuple(operation if o.id == operation.id else o for o in payment.operations))


def put(account: Account, payment: Payment) -> Account:
    """The account, with the payment in the place of what it was before, or as its newest."""
    if account.payment(payment.id) is None:
        return replace(account, payments=(*account.payments, payment))
    return replace(account, payments=tuple(payment if p.id == payment.id else p for p in account.payments))


def cannot_become(payment: Payment, there: Status) -> Refused:
    text = f"A payment that is {payment.status} cannot become {there}."
    return illegal(text, payment.status, MOVES[payment.status], payment_id=str(payment.id))
