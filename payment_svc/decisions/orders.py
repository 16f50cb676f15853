"""Events of the order service, and the payment of an order that costs nothing. Pure."""

from typing import overload
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.versions import check_jump
from payment_svc.decisions.steps import Decided, new_payment, next_version, with_payment
from payment_svc.lifecycle import OrderStatus, Reason, Status
from payment_svc.model.commands import ApplyOrderVersion
from payment_svc.model.events import PaymentConfirmed
from payment_svc.model.records import Account, Order


def apply_order_version(
    account: Account | None, command: ApplyOrderVersion, context: Context
) -> Decided:
    """The account with the order's new version; an older version changes nothing.

    Raises Refused VERSION_JUMP for a version that is too far ahead.
    """
    known_version = account.order.version if account else 0
    check_jump(known_version, command.order.version, f"Order {context.target}")
    if account and command.order.version <= account.order.version:
        return Decision(account)
    after = Account(command.order, account.payments if account else ())
    return add_not_required_payment(Decision(after), command.payment_id, context)


def add_not_required_payment(decided: Decided, payment_id: UUID, context: Context) -> Decided:
    """Adds the payment of a pending order of total zero that has no live payment."""
    account = decided.record
    pending = account.order.status is OrderStatus.PENDING
    if account.live_payment or not pending or account.order.total.minor:
        return decided
    paid = not_required_payment(account, payment_id, context)
    history, events = [*decided.history, *paid.history], [*decided.facts, *paid.facts]
    return Decision(paid.record, history, events)


def not_required_payment(account: Account, payment_id: UUID, context: Context) -> Decided:
    """The payment of an order of total zero, which needs no request."""
    unpaid = new_payment(account, payment_id, context, processor="")
    status = Status.NOT_REQUIRED
    payment, transition = next_version(unpaid, context, Reason.NOTHING_TO_PAY, status=status)
    return Decision(
        with_payment(account, payment), [transition], [PaymentConfirmed(payment, transition)]
    )


@overload
def with_newer_order(account: Account, order: Order | None) -> Account: ...
@overload
def with_newer_order(account: Account | None, order: Order | None) -> Account | None: ...
def with_newer_order(account: Account | None, order: Order | None) -> Account | None:
    """The account with the order that the order service has just returned, where it is newer."""
    if order is None or (account and order.version <= account.order.version):
        return account
    return Account(order, account.payments if account else ())
