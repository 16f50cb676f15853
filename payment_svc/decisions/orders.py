"""Events of the order service, and the payment of an order that costs nothing. Pure."""

from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.versions import check_jump
from payment_svc.decisions.transitions import Decided, change_payment, new_payment
from payment_svc.lifecycle import ORDER_PENDING, Reason, Status
from payment_svc.model.commands import ApplyOrderVersion
from payment_svc.model.records import Account, Order


def apply_order_version(
    account: Account | None, command: ApplyOrderVersion, context: Context
) -> Decided:
    """The account with the order's new version; an older version changes nothing.

    Raises Refused VERSION_JUMP for a version that is too far ahead.
    """
    check_jump(
        account.order.version if account else 0, command.order.version, f"Order {context.target}"
    )
    after = with_newer_order(account, command.order)
    if after is account:
        return Decision(after)
    return add_not_required_payment(Decision(after), command.payment_id, context)


def add_not_required_payment(decided: Decided, payment_id: UUID, context: Context) -> Decided:
    """Adds the payment of a pending order of total zero that has no live payment."""
    account = decided.record
    pending = account.order.status == ORDER_PENDING
    if account.live_payment or not pending or account.order.total.minor:
        return decided
    paid = not_required_payment(account, payment_id, context)
    return Decision(paid.record, [*decided.history, *paid.history])


def not_required_payment(account: Account, payment_id: UUID, context: Context) -> Decided:
    """The payment of an order of total zero, which needs no request."""
    unpaid = new_payment(account, payment_id, context, processor="")
    reason, status = Reason.NOTHING_TO_PAY, Status.NOT_REQUIRED
    return change_payment(account, unpaid, context, reason, status=status)


def with_newer_order(account: Account | None, order: Order) -> Account:
    """The account with this order, where it is newer."""
    if account and order.version <= account.order.version:
        return account
    return Account(order, account.payments if account else ())
