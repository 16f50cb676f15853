"""The request for an order, and the lines and the number that follow from it."""

from dataclasses import dataclass
from uuid import UUID

from chassis.values.money import split
from order_svc.model.records import Line, OrderTerms, Recipient

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # base 32 without letters that are taken for digits
MILLISECONDS_TO_2025 = 1_735_689_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutLine:
    """A line of a checkout, before it is priced; minor units."""

    sku: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout(OrderTerms):
    """A storefront's request for an order. `discount` and `tax` are the order's own, beside the
    lines'; minor units of `currency`.
    """

    lines: tuple[CheckoutLine, ...]
    discount: int
    tax: int
    recipient: Recipient


def priced_lines(checkout: Checkout) -> tuple[Line, ...]:
    """Returns the lines with their shares of the order's discount and tax, in proportion to what
    they cost: together exactly the order's.
    """
    costs = [line.unit_price * line.quantity - line.discount for line in checkout.lines]
    discounts, taxes = split(checkout.discount, costs), split(checkout.tax, costs)
    return tuple(
        Line(
            number=number,
            sku=line.sku,
            quantity=line.quantity,
            cancelled=0,
            unit_price=line.unit_price,
            discount=line.discount + discount,
            tax=line.tax + tax,
        )
        for number, (line, discount, tax) in enumerate(
            zip(checkout.lines, discounts, taxes, strict=True), 1
        )
    )


def order_number(order_id: UUID) -> str:
    """Returns an order's number for people, from its id (UUIDv7): the id's milliseconds since 2025
    and 30 of its random bits. Numbers sort by time.
    """
    since_2025 = (order_id.int >> 80) - MILLISECONDS_TO_2025
    bits = since_2025 << 30 | order_id.int & (1 << 30) - 1
    letters = "".join(CROCKFORD[bits >> shift & 31] for shift in range(70, -1, -5))
    return f"OM-{letters[:5]}-{letters[5:10]}-{letters[10:]}"
