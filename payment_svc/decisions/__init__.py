"""The verbs: what an order's account becomes when something is asked of it or told to it. Pure: no I/O, no clock, no chance.

orders.py          what the order service tells; the payment of an order of total zero
payments.py        create, capture, void
refunds.py         refund by request, refund of a return
settlement.py      what processors tell, and how they are asked again
contradictions.py  what a processor tells against what it told before
compensation.py    money that the order does not cost (any more) goes back, after every command
steps.py           how records change
"""

from dataclasses import replace
from datetime import datetime

from payment_svc.decisions import contradictions, orders, payments, refunds, settlement
from payment_svc.decisions.compensation import compensated
from payment_svc.decisions.settlement import DECLINES_MAX
from payment_svc.decisions.steps import Decided
from payment_svc.lifecycle import PUBLISHED_STATUSES, Kind
from payment_svc.model import (
    Account,
    AskAgain,
    CapturePayment,
    CreatePayment,
    LoseAnswer,
    NoteOrder,
    PaymentCommand,
    RefundPayment,
    RefundReturn,
    ResolveContradiction,
    Settle,
    StatusChanged,
    VoidPayment,
)

__all__ = ["DECLINES_MAX", "Decided", "decide"]


def decide(account: Account | None, command: PaymentCommand, now: datetime) -> Decided:
    """What becomes of the account; raises a Failure where nothing may. The same record back: the command is skipped."""
    return with_status_changes(compensated(_decide(account, command, now), command, now))


def with_status_changes(decided: Decided) -> Decided:
    """The decision, with a fact for each change to a status of PUBLISHED_STATUSES, before what follows from it."""
    changes = [change for change in decided.history if change.new in PUBLISHED_STATUSES and change.new is not change.old]
    payments = {payment.id: payment for payment in decided.record.payments}
    facts = [StatusChanged(payments[change.payment_id], change) for change in changes]
    return replace(decided, facts=[*facts, *decided.facts]) if facts else decided


def _decide(account: Account | None, command: PaymentCommand, now: datetime) -> Decided:
    match command:
        case NoteOrder():
            return orders.note(account, command, now)
        case CreatePayment():
            return payments.create(account, command, now)
        case CapturePayment():
            return payments.on_authorized(account, command, Kind.CAPTURE, now)
        case VoidPayment():
            return payments.on_authorized(account, command, Kind.VOID, now)
        case RefundPayment():
            return refunds.by_request(account, command, now)
        case RefundReturn():
            return refunds.of_return(account, command, now)
        case ResolveContradiction():
            return contradictions.resolve(account, command, now)
        case Settle():
            return orders.free(settlement.settle(*settlement.named_operation(account, command), command, now), command, now)
        case LoseAnswer():
            return settlement.lose_answer(*settlement.named_operation(account, command), command, now)
        case AskAgain():
            return settlement.ask_again(*settlement.named_operation(account, command), command, now)
