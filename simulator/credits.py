"""Matches credit notes to the invoices whose units they return; unmatched rows have a reason. Pure.

A note does not name the invoice that it credits. It is matched to goods that its customer bought
before at the same price: the latest invoice first, and each unit once.
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
    Row,
    Unusable,
    UnusedRow,
    price_of,
    quantity_of,
    time_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The units of one invoice that one note returns. `lines` are units by the invoice's line
    numbers, which begin at 1.
    """

    note: str
    invoice: Invoice
    lines: tuple[tuple[int, int], ...]
    # number of the file's rows in it; a row in several credits counts in the first
    rows: int = 0

    @property
    def units(self) -> int:
        """The returned units."""
        return sum(units for _, units in self.lines)

    @property
    def amount(self) -> int:
        """The note's amount in pence: quantity × price."""
        return sum(units * self.invoice.goods[line - 1].price for line, units in self.lines)

    def key(self, label: str = "") -> UUID:
        """Returns the key from which its requests derive their ids.

        The same credit in any file has the same key; another label gives another key.
        """
        return uuid5(
            self.invoice.key(label),
            hashlib.sha256(json.dumps([self.note, *self.lines]).encode()).hexdigest(),
        )


class _Bought:
    """The goods that customers have bought, and the units not yet returned."""

    def __init__(self, invoices: Iterable[Invoice]) -> None:
        self._of: defaultdict[str, list[Invoice]] = defaultdict(list)
        self._remaining: Counter[tuple[str, int]] = Counter()
        for invoice in invoices:
            if invoice.customer:
                self._of[invoice.customer].append(invoice)
            for line, good in enumerate(invoice.goods, 1):
                self._remaining[invoice.number, line] = good.quantity
        for several in self._of.values():
            several.sort(key=lambda invoice: invoice.time, reverse=True)

    def take(self, row: Row) -> list[tuple[Invoice, int, int]]:
        """Returns the row's units by invoice and line, and counts them as returned. Raises Unusable
        if too few units are left.
        """
        units, price, time = units_of(row), price_of(row), time_of(row)
        if not row.buyer:
            raise Unusable("a credit without a customer")
        if not list(self._lines(row, time)):
            raise Unusable("no earlier invoice of its customer in the file has it")
        fitting = [
            (invoice, line, remaining)
            for invoice, line, cost, remaining in self._lines(row, time)
            if cost == price
        ]
        if not fitting:
            raise Unusable("no earlier invoice of its customer in the file has it at this price")
        if units > sum(remaining for *_, remaining in fitting):
            raise Unusable("more units than its customer's earlier invoices in the file have left")
        taken = []
        for invoice, line, remaining in fitting:
            if here := min(units, remaining):
                taken.append((invoice, line, here))
                self._remaining[invoice.number, line] -= here
                units -= here
        return taken

    def _lines(self, row: Row, time: datetime) -> Iterator[tuple[Invoice, int, int, int]]:
        """Yields the earlier purchases of the row's goods by its customer, latest first: invoice,
        line, price and units left.
        """
        for invoice in self._of[row.buyer]:
            for line, good in enumerate(invoice.goods, 1):
                if good.sku == row.sku and invoice.time <= time:
                    yield invoice, line, good.price, self._remaining[invoice.number, line]


def match(rows: Iterable[Row], invoices: Sequence[Invoice]) -> tuple[list[Credit], list[UnusedRow]]:
    """Returns the credits of these invoices, and the rows that match no invoice, each with its
    reason.
    """
    bought, unused = _Bought(invoices), list[UnusedRow]()
    lines: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    counted: Counter[tuple[str, str]] = Counter()
    credited = {invoice.number: invoice for invoice in invoices}
    for row in rows:
        try:
            taken = bought.take(row)
        except Unusable as fault:
            unused.append(UnusedRow(row, str(fault)))
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
    return found, unused


def units_of(row: Row) -> int:
    """Returns the row's returned units, at least one. Raises Unusable if it returns no goods."""
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
