"""Credit notes: which units of which invoices come back, as far as the file has what they credit;
and why not, row by row. Pure.

A note does not say what it credits. It is taken to give back what its customer bought before at the
same price: of the latest invoice first, and of no unit twice.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from simulator.invoices import (
    DISCOUNT,
    FEES,
    POSTAGE,
    Invoice,
    Left,
    Row,
    Unusable,
    price_of,
    quantity_of,
    time_of,
)


@dataclass(frozen=True, slots=True)
class Credit:
    """What one note gives back of one invoice; `lines`: units by the invoice's line numbers,
    which begin at 1.
    """

    note: str
    invoice: Invoice
    lines: tuple[tuple[int, int], ...]
    # how many rows of the file are in it; one that is in several is counted in the first
    rows: int = 0

    @property
    def units(self) -> int:
        """Units that come back."""
        return sum(units for _, units in self.lines)

    @property
    def amount(self) -> int:
        """Pence, by the note: quantity × price."""
        return sum(units * self.invoice.goods[line - 1].price for line, units in self.lines)

    def key(self, label: str = "") -> UUID:
        """What its requests derive their ids from: the same for the same credit in whichever
        file, and another with another label.
        """
        return uuid5(
            self.invoice.key(label),
            hashlib.sha256(json.dumps([self.note, *self.lines]).encode()).hexdigest(),
        )


class _Bought:
    """What customers have bought, and how much of it has not come back yet."""

    def __init__(self, invoices: Iterable[Invoice]) -> None:
        self._of: defaultdict[str, list[Invoice]] = defaultdict(list)
        self._left: Counter[tuple[str, int]] = Counter()
        for invoice in invoices:
            if invoice.customer:
                self._of[invoice.customer].append(invoice)
            for line, good in enumerate(invoice.goods, 1):
                self._left[invoice.number, line] = good.quantity
        for several in self._of.values():
            several.sort(key=lambda invoice: invoice.time, reverse=True)

    def take(self, row: Row) -> list[tuple[Invoice, int, int]]:
        """The row's units, by invoice and line. Raises Unusable where there are not so many."""
        units, price, time = units_of(row), price_of(row), time_of(row)
        if not row.buyer:
            raise Unusable("a credit without a customer")
        if not list(self._lines(row, time)):
            raise Unusable("no earlier invoice of its customer in the file has it")
        fitting = [
            (invoice, line, left)
            for invoice, line, cost, left in self._lines(row, time)
            if cost == price
        ]
        if not fitting:
            raise Unusable("no earlier invoice of its customer in the file has it at this price")
        if units > sum(left for *_, left in fitting):
            raise Unusable("more units than its customer's earlier invoices in the file have left")
        taken = []
        for invoice, line, left in fitting:
            if here := min(units, left):
                taken.append((invoice, line, here))
                self._left[invoice.number, line] -= here
                units -= here
        return taken

    def _lines(self, row: Row, time: datetime) -> Iterator[tuple[Invoice, int, int, int]]:
        """Invoice, line, price and units left of what its customer had bought of the row's goods
        by then, the latest first.
        """
        for invoice in self._of[row.buyer]:
            for line, good in enumerate(invoice.goods, 1):
                if good.sku == row.sku and invoice.time <= time:
                    yield invoice, line, good.price, self._left[invoice.number, line]


def match(rows: Iterable[Row], invoices: Sequence[Invoice]) -> tuple[list[Credit], list[Left]]:
    """What the rows of credit notes give back of these invoices, and the rows that give nothing
    back, each with its reason.
    """
    bought, left = _Bought(invoices), list[Left]()
    lines: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    counted: Counter[tuple[str, str]] = Counter()
    credited = {invoice.number: invoice for invoice in invoices}
    for row in rows:
        try:
            taken = bought.take(row)
        except Unusable as fault:
            left.append(Left(row, str(fault)))
            continue
        for invoice, line, units in taken:
            lines[row.invoice, invoice.number][line] += units
        counted[row.invoice, taken[0][0].number] += 1
    found = [
        Credit(
            note=note,
            invoice=credited[number],
            lines=tuple(sorted(units.items())),
            rows=counted[note, number],
        )
        for (note, number), units in lines.items()
    ]
    return found, left


def units_of(row: Row) -> int:
    """Units of goods that come back, one or more. Raises Unusable for what is no such row."""
    units, code = -quantity_of(row), row.sku.upper()
    if code == DISCOUNT:
        raise Unusable("a discount afterwards, no goods")
    if code in FEES:
        raise Unusable("a fee of the shop's own, not goods")
    if code in POSTAGE:
        raise Unusable("postage given back, no goods")
    if units <= 0:
        raise Unusable("a credit that gives nothing back")
    return units
