"""Checks of every penny: payments against refunds, and both against the orders. Pure."""

from collections.abc import Sequence
from datetime import timedelta

from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.money import Money
from omctl.audit.difference import (
    ARRIVED,
    AT_WORK,
    CANCELLED_OR_FAILED,
    Difference,
    Differences,
    check,
    minor,
    republish,
    undo,
)
from omctl.audit.facts import Facts
from omctl.names import name_of

COMPLETED, PENDING, FAILED = (
    payment_pb2.REFUND_STATUS_COMPLETED,
    payment_pb2.REFUND_STATUS_PENDING,
    payment_pb2.REFUND_STATUS_FAILED,
)

DELIVERED = shipping_pb2.SHIPMENT_STATUS_DELIVERED


@check("payments", "refunds", rules=("payment.ceiling", "payment.refunds"))
def payments(facts: Facts, _stuck_after: timedelta) -> Differences:
    """refunded + pending <= captured <= authorized <= amount, and the payment's refunded and
    pending amounts are the sums of its refunds.
    """
    for payment in facts.payments:
        subject = f"payment {payment.payment_id} of order {payment.order_id}"
        repair = f"omctl order get {payment.order_id}"
        captured, refunded, pending = map(
            minor, (payment.captured_amount, payment.refunded_amount, payment.refund_pending_amount)
        )
        if (
            not refunded + pending
            <= captured
            <= minor(payment.authorized_amount)
            <= minor(payment.amount)
        ):
            yield Difference(
                check="payment.ceiling",
                subject=subject,
                text=f"captured {captured}, refunded {refunded}, pending {pending}",
                repair=repair,
            )
        for name, amount, status in (
            ("refunded", refunded, COMPLETED),
            ("pending", pending, PENDING),
        ):
            if (found := _refunds(facts, payment, status)) != amount:
                yield Difference(
                    check="payment.refunds",
                    subject=subject,
                    text=f"{name} is {amount}, its refunds sum to {found}",
                    repair=repair,
                )


@check("payments", rules=("payment.contradicted",))
def contradictions(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No processor contradicts its earlier report, except where an operator has resolved it."""
    for payment in facts.payments:
        for operation in payment.operations:
            for contradiction in operation.contradictions:
                if not contradiction.HasField("resolve_time"):
                    yield Difference(
                        check="payment.contradicted",
                        subject=f"payment {payment.payment_id} of order {payment.order_id}",
                        text=f"{payment.processor} said that operation {operation.operation_id} "
                        f"{_outcome(operation.outcome)}, and its report {contradiction.report_id} "
                        f"(SHA-256 {contradiction.payload_sha256}) says that it"
                        f" {_outcome(contradiction.outcome)}",
                        repair=f"omctl payment contradictions {payment.order_id}",
                    )


@check("payments", rules=("payment.twice",))
def charged_once(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Each attempt of an order is charged at most once."""
    for order_id, all_of_order in facts.payments_of.items():
        attempts = [payment.attempt for payment in all_of_order if minor(payment.captured_amount)]
        if len(attempts) != len(set(attempts)):
            yield Difference(
                check="payment.twice",
                subject=f"order {order_id}",
                text="an attempt was charged more than once",
                repair=f"omctl order get {order_id}",
            )


@check("orders", "payments", "shipments", rules=("payment.order",))
def charged_for_unknown_orders(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Payment retains money only for orders that exist, and for goods that were delivered."""
    for order_id, all_of_order in facts.payments_of.items():
        shipments = facts.shipments_of.get(order_id, ())
        if order_id in facts.orders or any(s.status == DELIVERED for s in shipments):
            continue
        if any(retained(payment) for payment in all_of_order):
            text = "money for an order that does not exist"
            yield Difference(
                check="payment.order", subject=f"order {order_id}", text=text, repair=undo(order_id)
            )


@check("orders", "payments", "refunds", rules=("money.closed_attempt", "money.authorised"))
def retained_of_ended_attempts(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Payment retains no money of an attempt that is not the last, or of a cancelled order."""
    for order_id, all_of_order in facts.payments_of.items():
        order = facts.orders.get(order_id)
        if order is None:
            continue
        subject = f"order {order_id}"
        for payment in all_of_order:
            if order.status not in CANCELLED_OR_FAILED and payment.attempt == order.attempt:
                continue
            unrefunded = minor(payment.captured_amount) - minor(payment.refunded_amount)
            if unrefunded:
                text = (
                    f"{unrefunded} minor units of ended attempt {payment.attempt} are not refunded"
                )
                yield Difference(
                    check="money.closed_attempt",
                    subject=subject,
                    text=text,
                    repair=_refund_of_ended_attempt(facts, payment),
                )
            if payment.status == payment_pb2.PAYMENT_STATUS_AUTHORIZED:
                text = f"payment {payment.payment_id} is still authorised{_void_declined(payment)}"
                yield Difference(
                    check="money.authorised",
                    subject=subject,
                    text=text,
                    repair=f"omctl payment void {payment.payment_id}",
                )


@check("orders", "payments", "refunds", rules=("money.unpaid", "money.owed", "money.refunded"))
def amounts_of_paid_orders(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Payment retains what an active, paid order costs and has refunded the rest, and the order
    states the refunded amount.
    """
    for order in facts.orders.values():
        if (
            order.status not in AT_WORK | ARRIVED
            or order.payment_status == order_pb2.PAYMENT_STATUS_NOT_REQUIRED
        ):
            continue
        payment = next(
            (
                p
                for p in facts.payments_of.get(order.order_id, ())
                if p.attempt == order.attempt and minor(p.captured_amount)
            ),
            None,
        )
        if payment is None:
            yield Difference(
                check="money.unpaid",
                subject=f"order {order.order_id}",
                text="goes on without a captured payment",
                repair=f"omctl order get {order.order_id}",
            )
        else:
            yield from _amounts(order, payment, facts.refunds_of.get(payment.payment_id, ()))


def _amounts(
    order: order_pb2.Order, payment: payment_pb2.Payment, refunds: Sequence[payment_pb2.Refund]
) -> Differences:
    """Compares an order's amounts with those of the payment of its attempt."""
    subject = f"order {order.order_id}"
    captured, costs = minor(payment.captured_amount), minor(order.total_amount)
    because_of_order, refused = _because_of_order(refunds)
    # A goodwill refund may have used the money that a cancellation would have refunded. Then no
    # money is left to refund.
    exhausted = minor(payment.refunded_amount) + minor(payment.refund_pending_amount) == captured
    if captured - because_of_order != costs and not (
        exhausted and captured - because_of_order > costs
    ):
        text = (
            f"costs {costs}, and {captured} − {because_of_order} minor units were captured and"
            " refunded"
        )
        yield Difference(
            check="money.owed",
            subject=subject,
            text=text,
            repair=_settle(payment, captured - because_of_order - costs, refused),
        )
    if minor(order.refunded_amount) != minor(payment.refunded_amount):
        text = (
            f"says {minor(order.refunded_amount)} refunded, its payment"
            f" {minor(payment.refunded_amount)}"
        )
        yield Difference(
            check="money.refunded",
            subject=subject,
            text=text,
            repair=republish("payment", order.order_id),
        )


@check("returns", "refunds", rules=("return.money",))
def returns(facts: Facts, _stuck_after: timedelta) -> Differences:
    """A closed return refunded the value of its units, or the money that was left."""
    given: dict[str, int] = {}
    for refund in facts.refunds:
        if refund.cause == payment_pb2.REFUND_CAUSE_RETURN and refund.status == COMPLETED:
            given[refund.return_id] = given.get(refund.return_id, 0) + minor(refund.amount)
    for each in facts.returns:
        subject = f"return {each.return_id} of order {each.order_id}"
        got = given.get(each.return_id, 0)
        if got != minor(each.refunded_amount) or got > minor(each.refund_amount):
            text = (
                f"worth {minor(each.refund_amount)}, says {minor(each.refunded_amount)} refunded,"
                f" payments say {got}"
            )
            yield Difference(
                check="return.money",
                subject=subject,
                text=text,
                repair=republish("payment", each.order_id),
            )


@check("orders", "payments", "refunds", rules=("return.twice",))
def refunded_once(facts: Facts, _stuck_after: timedelta) -> Differences:
    """The refunds of an active order for cancelled units and for returns are together no more than
    its units cost.
    """
    for order in facts.orders.values():
        for payment in facts.payments_of.get(order.order_id, ()):
            if order.status in CANCELLED_OR_FAILED or payment.attempt != order.attempt:
                continue  # no money of it is retained: retained_of_ended_attempts checks that
            refunds = facts.refunds_of.get(payment.payment_id, ())
            because_of_order, _ = _because_of_order(refunds)
            returned = sum(
                minor(r.amount)
                for r in refunds
                if r.cause == payment_pb2.REFUND_CAUSE_RETURN and r.status != FAILED
            )
            units = max(minor(payment.captured_amount) - minor(order.shipping_amount), 0)
            if because_of_order + returned > units:
                text = (
                    f"its units cost {units}; {because_of_order} minor units were refunded for"
                    f" cancelled units, {returned} for returns"
                )
                yield Difference(
                    check="return.twice",
                    subject=f"order {order.order_id}",
                    text=text,
                    repair=f"omctl order get {order.order_id}",
                )


def _refund_of_ended_attempt(facts: Facts, payment: payment_pb2.Payment) -> str:
    """Returns the command that refunds a payment of an ended attempt.

    Payment refunds it when it consumes the order's event again. A refund that a processor has
    refused needs a new request.
    """
    if any(refund.status == FAILED for refund in facts.refunds_of.get(payment.payment_id, ())):
        return _by_hand(payment)
    return republish("order", payment.order_id)


def retained(payment: payment_pb2.Payment) -> int:
    """Returns the minor units that a payment has authorised or captured, less its refunds,
    completed and pending.
    """
    if payment.status == payment_pb2.PAYMENT_STATUS_AUTHORIZED:
        return minor(payment.authorized_amount)
    refunds = minor(payment.refunded_amount) + minor(payment.refund_pending_amount)
    return minor(payment.captured_amount) - refunds


def _settle(payment: payment_pb2.Payment, excess: int, refused: int) -> str:
    """Returns the command that refunds `excess`, the minor units over an active order's cost.

    An operator refunds the `refused` part, which the processor has refused; payment the rest.
    """
    if excess < 0:
        return f"omctl order get {payment.order_id}"
    if by_hand := min(excess, refused):
        amount, currency = str(Money(by_hand, payment.captured_amount.currency_code)).split()
        return f"{_by_hand(payment)} --amount {amount} --currency {currency}"
    return republish("order", payment.order_id)


def _by_hand(payment: payment_pb2.Payment) -> str:
    """Returns the command that refunds the payment as it was read. A later version of the payment
    refuses it.
    """
    return f"omctl payment refund {payment.payment_id} --expected-version {payment.version}"


def _because_of_order(refunds: Sequence[payment_pb2.Refund]) -> tuple[int, int]:
    """Returns the minor units refunded because the order costs less, and those still refused.

    The first counts automatic refunds, and operators' refunds as far as they repair a refusal. The
    second counts what the processor has refused and no operator has refunded since.
    """
    requested = [
        refund
        for refund in refunds
        if refund.cause in (payment_pb2.REFUND_CAUSE_ORDER, payment_pb2.REFUND_CAUSE_REQUEST)
    ]
    requested.sort(key=lambda refund: refund.create_time.ToNanoseconds())
    requests = [
        (refund.create_time.ToNanoseconds(), place, False) for place, refund in enumerate(requested)
    ]
    refusals = [
        (refund.settle_time.ToNanoseconds(), place, True)
        for place, refund in enumerate(requested)
        if refund.status == FAILED
    ]
    refused, counts = 0, dict.fromkeys(range(len(requested)), 0)
    for _, place, is_refusal in sorted([*requests, *refusals]):
        amount = minor(requested[place].amount)
        if is_refusal:
            refused += counts.pop(place)
        else:
            repaired = min(amount, refused)
            refused -= repaired
            counts[place] = (
                amount if requested[place].cause == payment_pb2.REFUND_CAUSE_ORDER else repaired
            )
    return sum(counts.values()), refused


def _refunds(facts: Facts, payment: payment_pb2.Payment, status: int) -> int:
    return sum(
        minor(refund.amount)
        for refund in facts.refunds_of.get(payment.payment_id, ())
        if refund.status == status
    )


def _void_declined(payment: payment_pb2.Payment) -> str:
    """Returns the processor's answer to the last void if it declined it; else empty text."""
    voids = [o for o in payment.operations if o.kind == payment_pb2.PAYMENT_OPERATION_KIND_VOID]
    return (
        f"; its last void was declined: {voids[-1].failure_code}"
        if voids and voids[-1].failure_code
        else ""
    )


def _outcome(value: int) -> str:
    return name_of(payment_pb2.PaymentOperationOutcome, value)
