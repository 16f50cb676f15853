"""Automatic refunds and voids of money that the order does not cost: evaluated after every
command, in its decision. Pure.

The order's event (it is closed, or its total is lower) and the processor's answer can come in
either order: the decision about the second one sees both. Open operations are settled first: a
charge, an authorisation or a capture with an unknown outcome is evaluated again when its outcome is
known.

The excess is the captured money beyond what the order costs (`Account.amount_due`). Refunds of
returns and by request reduce what may still be refunded, not the excess. One kind does both: after
the processor has declined an automatic refund, a refund by request repays it, up to its amount.
"""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from payment_svc.decisions.transitions import Decided, automatic_operation, change_payment
from payment_svc.lifecycle import REQUEST_REASON, Cause, Kind, Outcome, Status
from payment_svc.model.records import Account, Operation, Payment


def compensate(decided: Decided, context: Context) -> Decided:
    """The decision with operations for all money that has to go back.

    An authorisation is voided, and captured money beyond what the order costs is refunded. The
    decision of a skipped command gets these operations too.
    """
    account, history = decided.record, list(decided.history)
    for payment in account.payments:
        operation = missing_operation(account, payment, context)
        if operation:
            reason = REQUEST_REASON[operation.kind]
            changed = change_payment(account, payment, context, reason, operation)
            account = changed.record
            history += changed.history
    return decided if account is decided.record else Decision(account, history, decided.events)


def missing_operation(account: Account, payment: Payment, context: Context) -> Operation | None:
    """The void or refund that leaves no more money with the service than the order costs.

    None where nothing has to go back, or where the processor has declined it for this version of
    the order.
    """
    due = account.amount_due(payment)
    if payment.status is Status.AUTHORIZED and not due and payment.open_operation is None:
        kind, amount = Kind.VOID, payment.authorized
    else:
        excess = payment.captured - compensated_amount(payment) - due
        kind, amount = Kind.REFUND, min(excess, payment.refundable)
    cause_id = _cause_id(payment, kind, account.order.version)
    if amount <= 0 or not cause_id:
        return None
    return automatic_operation(payment, kind, amount, Cause.ORDER, cause_id, context)


def compensated_amount(payment: Payment) -> int:
    """The amount of refunds, pending or completed, because the order costs less: automatic ones,
    and refunds by request as far as they repay automatic ones that the processor has declined.
    """
    refunds = [
        o for o in payment.operations if o.kind is Kind.REFUND and o.cause is not Cause.RETURN
    ]
    requests = [(o.request_time, index, False) for index, o in enumerate(refunds)]
    refusals = [
        (o.settle_time, index, True)
        for index, o in enumerate(refunds)
        if o.outcome is Outcome.FAILED and o.settle_time
    ]
    refused, amounts = 0, dict.fromkeys(range(len(refunds)), 0)
    for _, index, is_refusal in sorted([*requests, *refusals]):
        amount = refunds[index].amount
        if is_refusal:
            refused += amounts.pop(index)
        else:
            repaid = min(amount, refused)
            refused -= repaid
            amounts[index] = amount if refunds[index].cause is Cause.ORDER else repaid
    return sum(amounts.values())


def _cause_id(payment: Payment, kind: Kind, version: int) -> str | None:
    """The cause id of the operation for this version of the order; None where the processor has
    declined it: it is not requested again.

    After a pending refund of another cause failed and freed its amount, a version gets a second
    operation, `version:N:2`, and so on.
    """
    first = f"version:{version}"
    earlier = [
        o
        for o in payment.operations
        if (o.kind, o.cause) == (kind, Cause.ORDER) and f"{o.cause_id}:".startswith(f"{first}:")
    ]
    if any(o.outcome is Outcome.FAILED for o in earlier):
        return None
    return f"{first}:{len(earlier) + 1}" if earlier else first
