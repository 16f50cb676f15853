"""How records change: a payment's next version and its row of history; its operations. Pure."""

from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused, illegal
from payment_svc.lifecycle import (
    MOVES,
    Cause,
    Kind,
    Outcome,
    Reason,
    Status,
)
from payment_svc.model.commands import NewOperation
from payment_svc.model.records import Account, Contradiction, Operation, Payment, Transition

R = TypeVar("R", Payment, Operation, Contradiction)
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
        try_number=1 + sum(p.attempt == account.order.attempt for p in account.payments),
        order_version=account.order.version,
        status=Status.PENDING,
        currency=account.order.total.currency,
        amount=account.order.total.minor,
        processor=processor,
        version=0,
        create_time=context.time,
        update_time=context.time,
    )


def requested_operation(
    payment: Payment,
    new: NewOperation,
    kind: Kind,
    amount: int,
    context: Context,
    cause: Cause | None = None,
    cause_id: str | None = None,
) -> Operation:
    """The operation of a request, before the processor is called.

    The caller's call gets the outcome first; the settling worker looks it up after `lookup_after`.
    Raises Refused OPERATION_LIMIT_REACHED where callers have requested REQUESTS_MAX operations of
    this kind and cause; automatic ones are neither counted nor refused.
    """
    same = [o for o in payment.operations if (o.kind, o.cause) == (kind, cause)]
    if sum(not o.requested_by.startswith(f"{payment.id}:") for o in same) >= REQUESTS_MAX:
        text = f"Callers have asked for {REQUESTS_MAX} operations of this kind for this payment."
        raise Refused(
            "OPERATION_LIMIT_REACHED", text, max=str(REQUESTS_MAX), payment_id=str(payment.id)
        )
    return Operation(
        id=new.id,
        kind=kind,
        amount=amount,
        outcome=Outcome.REQUESTED,
        requested_by=new.requested_by,
        request_time=context.time,
        next_lookup_time=context.time + new.lookup_after,
        cause=cause,
        cause_id=cause_id,
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


def change_payment(
    account: Account,
    payment: Payment,
    context: Context,
    reason: Reason,
    operation: Operation | None = None,
    **fields: Any,
) -> Decided:
    """The account with the payment's next version, which has the operation and the fields, and the
    version's row of history.
    """
    after = replace(payment, version=payment.version + 1, update_time=context.time, **fields)
    if operation:
        after = replace(after, operations=with_record(payment.operations, operation))
    transition = Transition(
        payment_id=payment.id,
        version=after.version,
        old=payment.status if payment.version else None,
        new=after.status,
        operation_id=operation.id if operation else None,
        outcome=operation.outcome if operation else None,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        time=context.time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )
    return Decision(replace(account, payments=with_record(account.payments, after)), [transition])


def with_record(records: tuple[R, ...], record: R) -> tuple[R, ...]:
    """The records, with this one in the place of the one with its id, or as the newest."""
    by_id = {each.id: each for each in records} | {record.id: record}
    return tuple(by_id.values())


def illegal_transition(payment: Payment, status: Status) -> Refused:
    text = f"A payment that is {payment.status} cannot become {status}."
    return illegal(text, payment.status, MOVES[payment.status], payment_id=str(payment.id))
