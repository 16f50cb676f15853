"""Builds a shop's invoices from the rows of a file; unusable rows have a reason. Pure.

The file has postage and discounts as rows among the goods; they become the order's shipping and
discount. Amounts are pounds in the file and pence here. ledger.py reads the file, credits.py the
credit notes.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

CURRENCY: Final = "GBP"
PENCE: Final = 100
# The contract's bounds: an invoice beyond them cannot be an order.
LINES_MAX: Final = 500
QUANTITY_MAX: Final = 1_000_000
NAME_LENGTH_MAX: Final = 64  # of stock codes, and of the numbers of invoices and customers
PRICE_MAX: Final = 10_000_000 * PENCE

# Rows that are not goods, by their stock code.
POSTAGE: Final = frozenset({"POST", "DOT", "C2"})  # postage, the carrier's charge, carriage
DISCOUNT: Final = "D"
FEES: Final = frozenset({"AMAZONFEE", "BANK CHARGES", "B", "CRUK"})  # entries of the shop's ledger

# General categories of Unicode: control, format (joiners included, which no edition of the data set
# has), surrogate, line, paragraph.
UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# With slashes the month comes first, as in the data set's original edition.
TIME_FORMATS: Final = (
    "%d-%m-%y %H:%M",
    "%d-%m-%Y %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%m/%d/%Y %H:%M",
    "%m/%d/%y %H:%M",
)

_WHOLE: Final = re.compile(r"-?[0-9]{1,12}")
_DECIMAL: Final = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})")

_NAMESPACE: Final = UUID("5f0c2b0e-8d51-5b6b-9e0f-3d1f6f4b7a10")


class Unusable(Exception):
    """A row cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the file, as text. `line` is its line in the file; the header is line 1."""

    line: int
    invoice: str
    sku: str
    quantity: str
    price: str
    time: str = ""
    customer: str = ""
    country: str = ""

    @property
    def units(self) -> int:
        """The quantity; 0 if it cannot be parsed."""
        return _whole(self.quantity) or 0

    @property
    def buyer(self) -> str:
        """The customer's number. Some editions of the data set write it as a decimal."""
        return self.customer.removesuffix(".0")


@dataclass(frozen=True, slots=True)
class UnusedRow:
    """A row that was not used, with its reason."""

    row: Row
    reason: str


@dataclass(frozen=True, slots=True)
class Good:
    """A line of goods; `price` is in pence for each unit."""

    sku: str
    quantity: int
    price: int

    @property
    def amount(self) -> int:
        """The line's amount in pence."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Postage:
    """A row of postage, in pence."""

    amount: int


@dataclass(frozen=True, slots=True)
class Discount:
    """A row of a discount, in pence."""

    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """An invoice that can be ordered. `postage` and `discount` are pence, zero or more. An invoice
    without a customer is a guest's.
    """

    number: str
    time: datetime
    customer: str | None
    country: str
    goods: tuple[Good, ...]
    postage: int = 0
    discount: int = 0
    rows: int = 0  # number of the file's rows in it
    postage_units: int = 0  # sum of the quantities on its rows of postage

    @property
    def units(self) -> int:
        """The units of goods."""
        return sum(good.quantity for good in self.goods)

    @property
    def total(self) -> int:
        """The amount to pay, in pence."""
        return sum(good.amount for good in self.goods) + self.postage - self.discount

    def key(self, label: str = "") -> UUID:
        """Returns the key from which its requests derive their ids.

        The same invoice in any file has the same key; another label gives another key.
        """
        content = [label, self.number, self.customer, self.country, self.postage, self.discount]
        text = json.dumps(
            [*content, *([good.sku, good.quantity, good.price] for good in self.goods)]
        )
        return uuid5(_NAMESPACE, hashlib.sha256(text.encode()).hexdigest())


def invoice_of(number: str, rows: list[Row]) -> tuple[Invoice | None, list[UnusedRow]]:
    """Returns the invoice of these rows, or None, and the rows that are not part of it."""
    unused: list[UnusedRow] = []
    used: list[tuple[Row, Good | Postage | Discount]] = []
    for row in rows:
        try:
            used.append((row, _entry(row)))
        except Unusable as fault:
            unused.append(UnusedRow(row, str(fault)))
    if _of(used, Discount) > _of(used, Good):
        unused += [
            UnusedRow(row, "a discount of more than the goods cost")
            for row, entry in used
            if isinstance(entry, Discount)
        ]
        used = [(row, entry) for row, entry in used if not isinstance(entry, Discount)]
    goods = tuple(entry for _, entry in used if isinstance(entry, Good))
    if not 0 < len(goods) <= LINES_MAX:
        reason = (
            f"an invoice of more than {LINES_MAX} lines" if goods else "an invoice without goods"
        )
        return None, unused + [UnusedRow(row, reason) for row, _ in used]
    invoice = Invoice(
        number=number,
        time=min(time_of(row) for row, _ in used),
        customer=next((row.buyer for row, _ in used if row.buyer), None),
        country=used[0][0].country,
        goods=goods,
        postage=_of(used, Postage),
        discount=_of(used, Discount),
        rows=len(used),
        postage_units=sum(row.units for row, entry in used if isinstance(entry, Postage)),
    )
    return invoice, unused


def _of(
    used: list[tuple[Row, Good | Postage | Discount]], kind: type[Good | Postage | Discount]
) -> int:
    """Returns the sum of the rows of one kind, in pence."""
    return sum(entry.amount for _, entry in used if isinstance(entry, kind))


def _entry(row: Row) -> Good | Postage | Discount:
    """Returns the row as goods, postage or a discount. Raises Unusable if it is none of them."""
    if not row.invoice:
        raise Unusable("no invoice number")
    quantity, price, code = quantity_of(row), price_of(row), row.sku.upper()
    time_of(row)
    if code == DISCOUNT:
        if quantity * price >= 0:
            raise Unusable("a discount that takes nothing off")
        return Discount(-quantity * price)
    if quantity < 0:
        raise Unusable("a negative quantity outside a credit note")
    if price < 0:
        raise Unusable("a negative price")
    if quantity == 0:
        raise Unusable("no units")
    if code in FEES:
        raise Unusable("a fee of the shop's own, not goods")
    if code in POSTAGE:
        return Postage(quantity * price)
    if not row.sku:
        raise Unusable("no stock code")
    return Good(row.sku, quantity, price)


def quantity_of(row: Row) -> int:
    """Returns the row's units, negative on a credit note. Raises Unusable, also if a name is too
    long.
    """
    if max(len(row.invoice), len(row.sku), len(row.customer)) > NAME_LENGTH_MAX:
        raise Unusable(f"a number or code of more than {NAME_LENGTH_MAX} characters")
    if not all(map(_printable, (row.invoice, row.sku, row.customer, row.country))):
        raise Unusable("a character that is not to be printed")
    quantity = _whole(row.quantity)
    if quantity is None:
        raise Unusable("a quantity that is no whole number")
    if abs(quantity) > QUANTITY_MAX:
        raise Unusable(f"a quantity of more than {QUANTITY_MAX:,}")
    return quantity


def price_of(row: Row) -> int:
    """Returns the price in pence. Raises Unusable."""
    pounds = _decimal(row.price)
    if pounds is None:
        raise Unusable("a price that is no number")
    pence = pounds * PENCE
    if pence != pence.to_integral_value():
        raise Unusable("a price with a fraction of a penny")
    if abs(pence) > PRICE_MAX:
        raise Unusable(f"a price of more than {PRICE_MAX // PENCE:,} pounds")
    return int(pence)


def time_of(row: Row) -> datetime:
    """Returns the row's time by the shop's clock. Raises Unusable."""
    for form in TIME_FORMATS:
        try:
            # the file has no time zone
            return datetime.strptime(row.time, form)  # noqa: DTZ007
        except ValueError:
            continue
    raise Unusable("a date that cannot be read")


def _printable(text: str) -> bool:
    """Returns whether the text has no control or format characters: the order service refuses an
    order with one.
    """
    return not any(unicodedata.category(character) in UNPRINTABLE for character in text)


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
