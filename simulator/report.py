"""The report of a replay: the rows left out, the orders not delivered, the credits not returned,
and a summary. Pure.
"""

from collections import Counter
from collections.abc import Iterator

from chassis.values.money import Money
from simulator.invoices import CURRENCY, UnusedRow
from simulator.replay import Replay, Walked
from simulator.returns import CLOSED, Returned


def complete(replay: Replay) -> bool:
    """Returns whether every order was delivered, every credit was returned, and the services'
    records agree with the file to the unit and the penny.
    """
    return _through(replay) and _agree(replay)


def _through(replay: Replay) -> bool:
    """Returns whether every order was delivered and every credit was returned."""
    return all(
        walked.arrived and all(each.outcome == CLOSED for each in walked.returned)
        for walked in replay.walked
    )


def _agree(replay: Replay) -> bool:
    """Returns whether ordered and returned units and amounts agree with the file. A credit of a
    discounted invoice is refunded with the amount paid for its units.
    """
    units, money, totals = _units(replay), _money(replay), replay.totals
    bought = (totals.ordered_units, totals.shipped_units, totals.ordered, totals.captured) == (
        units,
        units,
        money,
        money,
    )
    credited, amount = _credited(replay)
    back = (totals.returned_units, totals.restocked_units, totals.refunded) == (
        credited,
        credited,
        totals.worth,
    )
    discounted = any(credit.invoice.discount for credit in replay.ledger.credits)
    return bought and back and (totals.worth <= amount if discounted else totals.worth == amount)


def lines(replay: Replay) -> Iterator[str]:
    """Yields the whole report."""
    if replay.ledger.unused:
        yield "Left out, row by row:"
        yield from map(unused_row, replay.ledger.unused)
    failed = [walked for walked in replay.walked if not walked.arrived]
    if failed:
        yield "Not delivered:"
        yield from map(not_delivered, failed)
    unreturned = [
        returned
        for walked in replay.walked
        for returned in walked.returned
        if returned.outcome != CLOSED
    ]
    if unreturned:
        yield "Not returned:"
        yield from map(not_returned, unreturned)
    yield from summary(replay)


def unused_row(unused: UnusedRow) -> str:
    """Returns the line for a row of the file that is in no order and no return."""
    row = unused.row
    return (
        f"  line {row.line:>6}  {row.invoice:<10} {row.sku:<12} {row.quantity:>7} x {row.price:<8}"
        f" {unused.reason}"
    )


def not_delivered(walked: Walked) -> str:
    """Returns the line for an order that was not delivered. An order that ended in an earlier
    replay is not ordered again.
    """
    purchase = walked.purchase
    number = f" {purchase.order.order_number} ({purchase.order.order_id})" if purchase.order else ""
    why = f": {purchase.why}" if purchase.why else ""
    anew = " (since an earlier replay; --again LABEL orders anew)" if purchase.found else ""
    return f"  invoice {walked.invoice.number}: {purchase.outcome}{number}{why}{anew}"


def not_returned(returned: Returned) -> str:
    """Returns the line for a credit that was not returned."""
    credit = returned.credit
    return (
        f"  credit note {credit.note} of invoice {credit.invoice.number}: {returned.outcome}:"
        f" {returned.why}"
    )


def summary(replay: Replay) -> Iterator[str]:
    """Yields the sums of the file beside those of the services."""
    ledger, totals = replay.ledger, replay.totals
    outcomes = Counter(walked.purchase.outcome for walked in replay.walked)
    arrived = sum(walked.arrived for walked in replay.walked)
    yield f"{arrived} of {len(replay.walked)} orders delivered in {replay.seconds:.1f} s"
    yield f"  orders   {_counted(outcomes)}"
    if found := sum(walked.purchase.found for walked in replay.walked):
        yield (
            f"  again    {found} of them were there from an earlier replay, and nothing was ordered"
            " twice (--again LABEL orders anew)"
        )
    in_orders = f"{sum(invoice.rows for invoice in ledger.invoices):,} in orders"
    in_returns = (
        f", {sum(credit.rows for credit in ledger.credits):,} in returns" if ledger.credits else ""
    )
    reasons = Counter(unused.reason for unused in ledger.unused)
    why = "".join(f"; {count:,} {reason}" for reason, count in reasons.most_common())
    yield (
        f"  rows     {ledger.rows:,} in the file: {in_orders}{in_returns}, {len(ledger.unused):,}"
        f" left out{why}"
    )
    postage = sum(invoice.postage_units for invoice in ledger.invoices)
    paid_as = f" (and {postage:,} of postage, as shipping)" if postage else ""
    yield (
        f"  units    {_units(replay):,} in the file's orders{paid_as}: {totals.ordered_units:,}"
        f" ordered, {totals.shipped_units:,} shipped"
    )
    yield (
        f"  money    {_pounds(_money(replay))} in the file's orders: {_pounds(totals.ordered)}"
        f" ordered, {_pounds(totals.captured)} captured"
    )
    if ledger.credits:
        yield from _returns(replay)
    if _through(replay) and not _agree(replay):
        yield "  The file and the services' totals differ."


def _returns(replay: Replay) -> Iterator[str]:
    """Yields the sums of the returns."""
    totals, (units, amount) = replay.totals, _credited(replay)
    outcomes = Counter(returned.outcome for walked in replay.walked for returned in walked.returned)
    yield f"  returns  {_counted(outcomes)}"
    yield (
        f"  units    {units:,} in the file's credits: {totals.returned_units:,} returned,"
        f" {totals.restocked_units:,} restocked"
    )
    unpaid = (
        f" ({_pounds(amount - totals.worth)} of it was never paid, by discounts)"
        if amount > totals.worth
        else ""
    )
    yield (
        f"  money    {_pounds(amount)} in the file's credits{unpaid}: {_pounds(totals.refunded)}"
        " refunded"
    )


def _counted(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or "none"


def _credited(replay: Replay) -> tuple[int, int]:
    """Returns the units and the pence of the credits."""
    return sum(credit.units for credit in replay.ledger.credits), sum(
        credit.amount for credit in replay.ledger.credits
    )


def _units(replay: Replay) -> int:
    return sum(invoice.units for invoice in replay.ledger.invoices)


def _money(replay: Replay) -> int:
    return sum(invoice.total for invoice in replay.ledger.invoices)


def _pounds(pence: int) -> str:
    return str(Money(pence, CURRENCY))
