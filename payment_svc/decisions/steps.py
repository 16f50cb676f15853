"""How records change: a payment's next version and its row of history; its operations. Pure."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused, illegal
from payment_svc.lifecycle import (
    BACK,
    MOVES,
    PUBLISHED_STATUSES,
    REQUEST_REASON,
    Cause,
    Kind,
    Outcome,
    Reason,
    Status,
)
from payment_svc.model import (
    Account,
    Change,
    NewOperation,
    Operation,
    Payment,
    RefundSettled,
    StatusChanged,
)

Decided = Decision[Account, Change]

# The operations of one kind and cause that callers may ask for, for one payment.
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
        create_time=context.time,
        update_time=context.time,
    )


def request(new: NewOperation, kind: Kind, amount: int, context: Context) -> Operation:
    """The operation of a request, before the processor is asked.

    The caller's call asks for the outcome first, and the settling worker after `ask_after`.
    """
    back = kind in BACK
    return Operation(
        id=new.id,
        kind=kind,
        amount=amount,
        outcome=Outcome.REQUESTED,
        requested_by=new.requested_by,
        request_time=context.time,
        ask_time=context.time + new.ask_after,
        cause=Cause.REQUEST if back else None,
        cause_id=context.cause if back else None,
    )


def check_requests(payment: Payment, wanted: Operation) -> None:
    """Raises Refused OPERATION_LIMIT_REACHED where callers have asked for REQUESTS_MAX operations
    of this kind and cause.

    What the service gives back without a request is neither counted nor refused.
    """
    same = [o for o in payment.operations if (o.kind, o.cause) == (wanted.kind, wanted.cause)]
    if sum(not o.requested_by.startswith(f"{payment.id}:") for o in same) < REQUESTS_MAX:
        return
    text = f"Callers have asked for {REQUESTS_MAX} operations of this kind for this payment."
    raise Refused(
        "OPERATION_LIMIT_REACHED", text, max=str(REQUESTS_MAX), payment_id=str(payment.id)
    )


def going_back(
    payment: Payment,
    kind: Kind,
    amount: int,
    cause: Cause,
    cause_id: str,
    context: Context,
) -> Operation:
    """The operation that gives money back without a request. It is due at once.

    Its id and its key follow from its cause, so that a cause has one operation for ever. The key
    begins with the payment's id, as no request's does.
    """
    name = f"{kind}:{cause}:{cause_id}"
    return Operation(
        id=uuid5(payment.id, name),
        kind=kind,
        amount=amount,
        outcome=Outcome.REQUESTED,
        requested_by=f"{payment.id}:{name}",
        request_time=context.time,
        ask_time=context.time,
        cause=cause,
        cause_id=cause_id,
    )


def changed(
    payment: Payment,
    context: Context,
    reason: Reason,
    operation: Operation | None = None,
    **fields: Any,
) -> tuple[Payment, Change]:
    """The payment's next version, with the operation and the fields, and its row of history."""
    old = payment.status if payment.version else None
    payment = replace(payment, version=payment.version + 1, update_time=context.time, **fields)
    change = Change(
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
    return with_operation(payment, operation) if operation else payment, change


def refunding(payment: Payment, operation: Operation, context: Context) -> tuple[Payment, Change]:
    """The payment's next version with a requested refund, whose amount is pending from then on."""
    pending = payment.refund_pending + operation.amount
    reason = REQUEST_REASON[Kind.REFUND]
    return changed(payment, context, reason, operation, refund_pending=pending)


def refund_settled(
    account: Account,
    payment: Payment,
    operation: Operation,
    change: Change,
) -> Decided:
    """The decision with the payment, its change, and the fact of the refund's outcome."""
    fact = RefundSettled(payment, change, payment.refund(operation))
    return Decision(put(account, payment), [change], [fact])


def with_status_changes(decided: Decided) -> Decided:
    """The decision with a fact for each change to a published status, before its other facts."""
    published = [change for change in decided.history if change.new in PUBLISHED_STATUSES]
    changes = [change for change in published if change.new is not change.old]
    if not changes:
        return decided
    payments = {payment.id: payment for payment in decided.record.payments}
    facts = [StatusChanged(payments[change.payment_id], change) for change in changes]
    return replace(decided, facts=[*facts, *decided.facts])


def with_operation(payment: Payment, operation: Operation) -> Payment:
    """The payment, with the operation in the place of what it was before, or as its newest."""
    if payment.operation(operation.id) is None:
        return replace(payment, operations=(*payment.operations, operation))
    return replace(
        payment,
        operations=tuple(operation if o.id == operation.id else o for o in payment.operations),
    )


def put(account: Account, payment: Payment) -> Account:
    """The account, with the payment in the place of what it was before, or as its newest."""
    if account.payment(payment.id) is None:
        return replace(account, payments=(*account.payments, payment))
    return replace(
        account, payments=tuple(payment if p.id == payment.id else p for p in account.payments)
    )


def cannot_become(payment: Payment, there: Status) -> Refused:
    text = f"A payment that is {payment.status} cannot become {there}."
    return illegal(text, payment.status, MOVES[payment.status], payment_id=str(payment.id))
