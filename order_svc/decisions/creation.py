"""A checkout becomes an order; a failed order is tried again."""

from dataclasses import replace
from datetime import timedelta

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Invalid, Violation, illegal
from chassis.values.money import UNITS_MAX, minor_digits
from order_svc.decisions.transitions import Decided, advance, allocated, check_version
from order_svc.lifecycle import MOVES, Commit, PaymentOutcome, Reason, Status
from order_svc.model.checkout import Checkout, order_number, priced_lines
from order_svc.model.commands import PlaceOrder, RetryOrder
from order_svc.model.records import Order

PAYMENT_WINDOW = timedelta(minutes=30)


def check(checkout: Checkout) -> None:
    """Raises Invalid VALIDATION_FAILED, naming each bad field, for a discount above the cost or a
    total above UNITS_MAX. It runs before stock is reserved.
    """
    violations = [
        Violation(f"items[{index}].discount_amount", "must be at most unit_price × quantity")
        for index, line in enumerate(checkout.lines)
        if line.discount > line.unit_price * line.quantity
    ]
    subtotal = sum(line.unit_price * line.quantity for line in checkout.lines)
    cost = subtotal - sum(line.discount for line in checkout.lines)
    if not violations and checkout.discount > cost:
        violations.append(
            Violation(
                "discount_amount", "must be at most what the lines cost after their own discounts"
            )
        )
    total = (
        cost
        - checkout.discount
        + sum(line.tax for line in checkout.lines)
        + checkout.tax
        + checkout.shipping
    )
    most = UNITS_MAX * 10 ** minor_digits(checkout.currency)
    if max(subtotal, total) > most:
        exceeded = "before discounts" if subtotal > most else "with tax and shipping"
        rule = f"must cost 0 to {UNITS_MAX} {checkout.currency} together, {exceeded}"
        violations.append(Violation("items", rule))
    if violations:
        raise Invalid("VALIDATION_FAILED", "The amounts do not add up.", violations=violations)


def place(order: Order | None, command: PlaceOrder, context: Context) -> Decided:
    """Returns a new pending order with its reserved stock."""
    if order:
        return Decision(order)  # an earlier try placed it, whose idempotency key was deleted
    checkout = command.checkout
    lines = allocated(priced_lines(checkout), command.allocations)
    order = Order(
        **checkout.terms(),
        id=context.target,
        number=order_number(context.target),
        checkout_key=command.checkout_key,
        status=Status.PENDING,
        reason=Reason.ORDER_PLACED,
        attempt=1,
        version=0,
        payment_outcome=PaymentOutcome.NONE,
        commit=Commit.NONE,
        captured=0,
        refunded=0,
        create_time=context.time,
        update_time=context.time,
        expire_time=context.time + PAYMENT_WINDOW,
        lines=lines,
        recipient=checkout.recipient,
    )
    return advance(order, (Status.PENDING,), Reason.ORDER_PLACED, context)


def retry(order: Order, command: RetryOrder, context: Context) -> Decided:
    """A failed order is pending again, with what was reserved for its next attempt. Money and
    fulfilments of the earlier attempt stay with that attempt.
    """
    check_retry(order, command)
    if command.attempt != order.attempt + 1 or command.allocations is None:
        raise Deferred("CONTENTION", "The order has changed meanwhile.")
    retried = replace(
        order,
        attempt=command.attempt,
        payment_outcome=PaymentOutcome.NONE,
        commit=Commit.NONE,
        captured=0,
        refunded=0,
        expire_time=context.time + PAYMENT_WINDOW,
        lines=allocated(order.lines, command.allocations),
        fulfillments=(),
        earlier_fulfillments=(*order.earlier_fulfillments, *order.fulfillments),
    )
    return advance(retried, (Status.PENDING,), Reason.ORDER_RETRIED, context)


def check_retry(order: Order, command: RetryOrder) -> None:
    """Refuses to try an order again that has not failed, before any stock is reserved for it."""
    check_version(order, command)
    if order.status is not Status.FAILED:
        raise illegal(
            f"An order that is {order.status} is not tried again.",
            order.status,
            MOVES[order.status],
        )
