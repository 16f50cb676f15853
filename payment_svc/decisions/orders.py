"""What the order service tells of its order, and the payment of an order that costs nothing. Pure."""

from datetime import datetime
from typing import overload

from chassis.decision import Decision
from chassis.versions import check_jump
from payment_svc.decisions.steps import Decided, changed, new_payment, put
from payment_svc.lifecycle import OrderStatus, Reason, Status
from payment_svc.model import Account, Confirmed, CreatePayment, NoteOrder, Order, Settle


def note(account: Account | None, command: NoteOrder, now: datetime) -> Decided:
    check_jump(account.order.version if account else 0, command.order.version, f"Order {command.target}")
    if account and command.order.version <= account.order.version:
        return Decision(account)  # heard before, or told late
    return free(Decision(Account(command.order, account.payments if account else ())), command, now)


def free(decided: Decided, command: NoteOrder | Settle, now: datetime) -> Decided:
    """With the payment of an order that waits and costs nothing (any more), where no other payment stands for it."""
    account = decided.record
    if account.live or account.order.status is not OrderStatus.PENDING or account.order.total.minor:
        return decided
    paid = nothing_to_pay(account, command, now)
    return Decision(paid.record, [*decided.history, *paid.history], [*decided.facts, *paid.facts])


def nothing_to_pay(account: Account, command: NoteOrder | CreatePayment | Settle, now: datetime) -> Decided:
    """The payment of an order of total zero, which nobody has to ask for."""
    unpaid = new_payment(account, command, now, processor="")
    payment, change = changed(unpaid, command, now, Reason.NOTHING_TO_PAY, status=Status.NOT_REQUIRED)
    return Decision(put(account, payment), [change], [Confirmed(payment, change)])


@overload
def known(account: Account, order: Order | None) -> Account: ...
@overload
def known(account: Account | None, order: Order | None) -> Account | None: ...
def known(account: Account | None, order: Order | None) -> Account | None:
    """The account, with what the order service has just said where that is news."""
    if order is None or (account and order.version <= account.order.version):
        return account
    return Account(order, account.payments if account else ())
