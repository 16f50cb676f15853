"""Money of an order: what is frozen at placement always adds up."""

from hypothesis import given
from hypothesis import strategies as st

from order_svc.model.checkout import Checkout, CheckoutLine, priced_lines
from tests.unit.order.samples import checkout

amounts = st.integers(0, 10**9)


@st.composite
def checkouts(draw: st.DrawFn) -> Checkout:
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        quantity, price = draw(st.integers(1, 10**6)), draw(st.integers(0, 10**5))
        lines.append(
            CheckoutLine(
                sku="SKU",
                quantity=quantity,
                unit_price=price,
                discount=draw(st.integers(0, price * quantity)),
                tax=draw(amounts),
            )
        )
    cost = sum(line.unit_price * line.quantity - line.discount for line in lines)
    return checkout(
        *lines, discount=draw(st.integers(0, cost)), tax=draw(amounts), shipping=draw(amounts)
    )


@given(checkouts())
def test_lines_carry_the_whole_of_the_orders_discount_and_tax(of: Checkout) -> None:
    """Over all lines, discounts and taxes are exactly the lines' own plus the order's, and no
    line costs less than nothing.
    """
    lines = priced_lines(of)
    assert (
        sum(line.discount for line in lines)
        == sum(line.discount for line in of.lines) + of.discount
    )
    assert sum(line.tax for line in lines) == sum(line.tax for line in of.lines) + of.tax
    assert all(0 <= line.discount <= line.subtotal for line in lines)


@given(checkouts())
def test_unit_shares_add_up_to_their_line(of: Checkout) -> None:
    """The shares' quantities are the line's, their amounts its total; units differ by two minor
    units at most, none is below zero.
    """
    for line in priced_lines(of):
        assert sum(share.quantity for share in line.shares) == line.quantity
        assert sum(share.quantity * share.amount for share in line.shares) == line.total
        assert max(s.amount for s in line.shares) - min(s.amount for s in line.shares) <= 2
        assert all(share.amount >= 0 and share.quantity >= 1 for share in line.shares)
