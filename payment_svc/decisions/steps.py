"""How records change: a payment's next version and its row of history; its operations. Pure."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused, illegal
from payment_svc.lifecycle import (
    MOVES,
    PUBLISHED_STATUSES,
    REVERSALS,
    Cause,
    Kind,
    Outcome,
    Reason,
    Status,
)
from payment_svc.model.commands import NewOperation
from payment_svc.model.events import PaymentStatusChanged, RefundSettled
from payment_svc.model.records import Account, Operation, Payment, Transition

Decided = Decision[Account, Transition]

# The most operations of one kind and cause that callers can request, for one payment.
REQUESTS_MAX = 500


def new_payment(
    account: Account,
    payment_id: UUID,
    context: Context,
    *,
    processor: str,
) -> Payment:
    """The next try to pay the order's current attempt, before its first version."""
    return Payment(
        id=payment_id,
        order_id=account.order.id,
        attempt=account.order.attempt,
        try_number=len(account.attempt_payments) + 1,
        order_version=account.order.version,
        status=Status.PENDING,
        currency=account.order.total.currency,
        amount=account.order.total.minor,
        processor=processor,
        version=0,
        create_time=context.time,
        update_time=context.time,
    )


def requested_operation(new: NewOperation, kind: Kind, amount: int, context: Context) -> Operation:
    """The operation of a request, before the processor is called.

    The caller's call gets the outcome first; the settling worker looks it up after `lookup_after`.
    """
    reversal = kind in REVERSALS
    return Operation(
        id=new.id,
        kind=kind,
        amount=amount,
        outcome=Outcome.REQUESTED,
        requested_by=new.requested_by,
        request_time=context.time,
        next_lookup_time=context.time + new.lookup_after,
        cause=Cause.REQUEST if reversal else None,
        cause_id=context.cause if reversal else None,
    )


def check_operation_limit(payment: Payment, operation: Operation) -> None:
    """Raises Refused OPERATION_LIMIT_REACHED where callers have requested REQUESTS_MAX
    operations of this kind and cause.

    Automatic refunds and voids are neither counted nor refused.
    """
    same = [o for o in payment.operations if (o.kind, o.cause) == (operation.kind, operation.cause)]
    if sum(not o.requested_by.startswith(f"{payment.id}:") for o in same) < REQUESTS_MAX:
        return
    text = f"Callers have asked for {REQUESTS_MAX} operations of this kind for this payment."
    raise Refused(
        "OPERATION_LIMIT_REACHED", text, max=str(REQUESTS_MAX), payment_id=str(payment.id)
    )


def automatic_operation(
    payment: Payment,
    kind: Kind,
    amount: int,
    cause: Cause,
    cause_id: str,
    context: Context,
) -> Operation:
    """The automatic refund or void of a cause. Its first lookup is due at once.

    The id and `requested_by` follow from the cause, so that a cause has one operation for ever.
    `requested_by` begins with the payment's id, as no request's key does.
    """
    name = f"{kind}:{cause}:{cause_id}"
    return Operation(
        id=uuid5(payment.id, name),
        kind=kind,
        amount=amount,
        outcome=Outcome.REQUESTED,
        requested_by=f"{payment.id}:{name}",
        request_time=context.time,
        next_lookup_time=context.time,
        cause=cause,
        cause_id=cause_id,
    )


def next_version(
    payment: Payment,
    context: Context,
    reason: Reason,
    operation: Operation | None = None,
    **fields: Any,
) -> tuple[Payment, Transition]:
    """The payment's next version, with the operation and the fields, and its row of history."""
    old = payment.status if payment.version else None
    payment = replace(payment, version=payment.version + 1, update_time=context.time, **fields)
    transition = Transition(
        payment_id=payment.id,
        version=payment.version,
        old=old,
        new=payment.status,
        operation_id=operation.id if operation else None,
        outcome=operation.outcome if operation else None,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        time=context.time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )
    return with_operation(payment, operation) if operation else payment, transition


def settle_refund(
    account: Account,
    payment: Payment,
    operation: Operation,
    transition: Transition,
) -> Decided:
    """The decision with the payment, its change, and the domain event of the refund's outcome."""
    event = RefundSettled(payment, transition, payment.refund(operation))
    return Decision(with_payment(account, payment), [transition], [event])


def with_status_events(decided: Decided) -> Decided:
    """The decision with a domain event for each change to a published status, before its others."""
    published = [row for row in decided.history if row.new in PUBLISHED_STATUSES]
    changes = [row for row in published if row.new is not row.old]
    if not changes:
        return decided
    payments = {payment.id: payment for payment in decided.record.payments}
    events = [PaymentStatusChanged(payments[row.payment_id], row) for row in changes]
    return replace(decided, facts=[*events, *decided.facts])


def with_operation(payment: Payment, operation: Operation) -> Payment:
    """The payment, with the operation in the place of what it was before, or as its newest."""
    if payment.operation(operation.id) is None:
        return replace(payment, operations=(*payment.operations, operation))
    return replace(
        payment,
        operations=tuple(operation if o.id == operation.id else o for o in payment.operations),
    )


def with_payment(account: Account, payment: Payment) -> Account:
    """The account, with the payment in the place of what it was before, or as its newest."""
    if account.payment(payment.id) is None:
        return replace(account, payments=(*account.payments, payment))
    return replace(
        account, payments=tuple(payment if p.id == payment.id else p for p in account.payments)
    )


def illegal_transition(payment: Payment, status: Status) -> Refused:
    text = f"A payment that is {payment.status} cannot become {status}."
    return illegal(text, payment.status, MOVES[payment.status], payment_id=str(payment.id))
