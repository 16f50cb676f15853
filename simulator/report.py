"""What a replay says at its end: row by row what was left out, order by order what did not arrive, and a summary. Pure."""

from collections import Counter
from collections.abc import Iterator

from chassis.money import Money
from simulator.invoices import CURRENCY, Left
from simulator.replay import Replay, Walked

DELIVERED = "delivered"


def complete(replay: Replay) -> bool:
    """Every order is delivered, and the services' books agree with the file to the unit and to the penny."""
    units, money = _units(replay), _money(replay)
    books = replay.books
    agree = (books.ordered_units, books.shipped_units, books.ordered, books.captured) == (units, units, money, money)
    return agree and all(walked.purchase.outcome == DELIVERED for walked in replay.walked)


def lines(replay: Replay) -> Iterator[str]:
    """The whole report."""
    if replay.ledger.left:
        yield "Left out, row by row:"
        yield from map(left_out, replay.ledger.left)
    failed = [walked for walked in replay.walked if walked.purchase.outcome != DELIVERED]
    if failed:
        yield "Not delivered:"
        yield from map(not_delivered, failed)
    yield from summary(replay)


def left_out(left: Left) -> str:
    """A row of the file that is in no order, and why."""
    row = left.row
    return f"  line {row.line:>6}  {row.invoice:<10} {row.sku:<12} {row.quantity:>7} x {row.price:<8} {left.reason}"


def not_delivered(walked: Walked) -> str:
    """An order that did not arrive, and why."""
    purchase = walked.purchase
    number = f" {purchase.order.order_number} ({purchase.order.order_id})" if purchase.order else ""
    return f"  invoice {walked.invoice.number}: {purchase.outcome}{number}" + (f": {purchase.why}" if purchase.why else "")


def summary(replay: Replay) -> Iterator[str]:
    """What was asked for, beside what the services say that they did."""
    ledger, books = replay.ledger, replay.books
    outcomes = Counter(walked.purchase.outcome for walked in replay.walked)
    yield f"{outcomes[DELIVERED]} of {len(replay.walked)} orders delivered in {replay.seconds:.1f} s"
    yield "  orders   " + (", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or "none")
    if found := sum(walked.purchase.found for walked in replay.walked):
        yield f"  again    {found} of them were there from an earlier replay, and nothing was ordered twice (--again LABEL orders anew)"
    in_orders = sum(invoice.rows for invoice in ledger.invoices)
    reasons = Counter(left.reason for left in ledger.left)
    why = "".join(f"; {count:,} {reason}" for reason, count in reasons.most_common())
    yield f"  rows     {ledger.rows:,} in the file: {in_orders:,} in orders, {len(ledger.left):,} left out{why}"
    postage = sum(invoice.postage_units for invoice in ledger.invoices)
    paid_as = f" (and {postage:,} of postage, as shipping)" if postage else ""
    yield f"  units    {_units(replay):,} in the file's orders{paid_as}: {books.ordered_units:,} ordered, {books.shipped_units:,} shipped"
    yield f"  money    {_told(_money(replay))} in the file's orders: {_told(books.ordered)} ordered, {_told(books.captured)} captured"
    if outcomes[DELIVERED] == len(replay.walked) and not complete(replay):
        yield "  The file and the services' books differ."


def _units(replay: Replay) -> int:
    return sum(invoice.units for invoice in replay.ledger.invoices)


def _money(replay: Replay) -> int:
    return sum(invoice.total for invoice in replay.ledger.invoices)


def _told(pence: int) -> str:
    return str(Money(pence, CURRENCY))
