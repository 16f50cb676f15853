"""Money that the order does not cost goes back by itself: evaluated after every command, in its
decision. Pure.

Whichever of the two facts comes second, the order's death (or a lower total) or the money, meets
the other here. What is open is settled first: a charge, an authorisation or a capture whose outcome
nobody knows comes by again when it is known. Of what was captured the order keeps what it costs
(`Account.due`); refunds of another cause (a return, a request) give away money of the rest, never
of the ceiling twice. What the processor has refused to give back counts as repaid by later refunds
by request: whoever repairs it by hand must not see it given twice. What they give beyond that is a
favour like any other.
"""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from payment_svc.decisions.steps import Decided, changed, going_back, put, refunding
from payment_svc.lifecycle import REQUEST_REASON, Cause, Kind, Outcome, Status
from payment_svc.model import Account, Operation, Payment


def compensated(decided: Decided, context: Context) -> Decided:
    """The decision with requests for all money that has to go back.

    An authorisation is voided, and captured money beyond what the order costs is refunded. The
    decision of a skipped command gets these requests too.
    """
    account, history = decided.record, list(decided.history)
    for payment in account.payments:
        operation = owed(account, payment, context)
        if operation is None:
            continue
        if operation.kind is Kind.VOID:
            after, change = changed(payment, context, REQUEST_REASON[Kind.VOID], operation)
        else:
            after, change = refunding(payment, operation, context)
        account = put(account, after)
        history.append(change)
    return decided if account is decided.record else Decision(account, history, decided.facts)


def owed(account: Account, payment: Payment, context: Context) -> Operation | None:
    """The operation that leaves no more money here than the order costs; None: it is so already."""
    due = account.due(payment)
    if payment.status is Status.AUTHORIZED and not due and payment.open_operation is None:
        kind, amount = Kind.VOID, payment.authorized
    else:
        back = given_back(payment)
        kind, amount = Kind.REFUND, min(payment.captured - back - due, payment.refundable)
    cause_id = _cause_id(payment, kind, account.order.version)
    if amount <= 0 or not cause_id:
        return None
    return going_back(payment, kind, amount, Cause.ORDER, cause_id, context)


def given_back(payment: Payment) -> int:
    """What went back, or is on its way, because the order costs less: by itself; and by hand, as
    far as the processor had refused it.
    """
    refunds = [
        o for o in payment.operations if o.kind is Kind.REFUND and o.cause is not Cause.RETURN
    ]
    requests = [(o.request_time, place, False) for place, o in enumerate(refunds)]
    refusals = [
        (o.settle_time, place, True)
        for place, o in enumerate(refunds)
        if o.outcome is Outcome.FAILED and o.settle_time
    ]
    refused, counts = 0, dict.fromkeys(range(len(refunds)), 0)
    for _, place, is_refusal in sorted([*requests, *refusals]):
        amount = refunds[place].amount
        if is_refusal:
            refused += counts.pop(place)
        else:
            repaired = min(amount, refused)
            refused -= repaired
            counts[place] = amount if refunds[place].cause is Cause.ORDER else repaired
    return sum(counts.values())


def _cause_id(payment: Payment, kind: Kind, version: int) -> str | None:
    """The name of what is asked for by this version of the order; None where the processor has
    refused it: it is not asked in a circle.

    A version has a second one where money comes free that another refund had held, and that refund
    then failed.
    """
    first = f"version:{version}"
    before = [
        o
        for o in _by_order(payment, kind)
        if o.cause_id == first or f"{o.cause_id}".startswith(f"{first}:")
    ]
    if any(o.outcome is Outcome.FAILED for o in before):
        return None
    return f"{first}:{len(before) + 1}" if before else first


def _by_order(payment: Payment, kind: Kind) -> list[Operation]:
    return [o for o in payment.operations if o.kind is kind and o.cause is Cause.ORDER]
