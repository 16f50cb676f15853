"""Invoices of a shop, read from a CSV file: what can be ordered again, and row by row what cannot, and why. Pure but for `read`.

The format is that of the Online Retail data set: one row a line, InvoiceNo, StockCode, Description, Quantity, InvoiceDate
(day-month-year), UnitPrice, CustomerID, Country. Postage and discounts stand among the goods; they become the order's shipping and
discount. Amounts are pounds in the file and pence here.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
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
FEES: Final = frozenset({"AMAZONFEE", "BANK CHARGES", "B", "CRUK"})  # the shop's own book-keeping

# Columns by the names that editions of the data set give them.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "invoice": ("InvoiceNo", "Invoice"),
    "sku": ("StockCode",),
    "quantity": ("Quantity",),
    "time": ("InvoiceDate",),
    "price": ("UnitPrice", "Price"),
    "customer": ("CustomerID", "Customer ID"),
    "country": ("Country",),
}
# With strokes the month stands first: so does the data set's own edition.
TIME_FORMATS: Final = ("%d-%m-%y %H:%M", "%d-%m-%Y %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%y %H:%M")

_WHOLE: Final = re.compile(r"-?[0-9]{1,12}")
_DECIMAL: Final = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})")

RETURN: Final = "returns: not yet"
_NAMESPACE: Final = UUID("5f0c2b0e-8d51-5b6b-9e0f-3d1f6f4b7a10")


class FileFault(Exception):
    """The file as a whole cannot be read as invoices; the text says why, and what to do."""


class _Unusable(Exception):
    """A row cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file as it stands there; `line` is its line in the file, the header being line 1."""

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
        """Its quantity; 0 where that cannot be read."""
        return _whole(self.quantity) or 0

    @property
    def amount(self) -> Decimal:
        """Quantity × price in pounds, exactly; 0 where they cannot be read."""
        return self.units * (_decimal(self.price) or Decimal())


@dataclass(frozen=True, slots=True)
class Left:
    """A row that was not used, and why."""

    row: Row
    reason: str


@dataclass(frozen=True, slots=True)
class Good:
    """A line of goods: `price` is pence a unit."""

    sku: str
    quantity: int
    price: int

    @property
    def amount(self) -> int:
        """What the line costs, in pence."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Postage:
    """A row that pays for the parcel, in pence."""

    amount: int


@dataclass(frozen=True, slots=True)
class Discount:
    """A row that takes something off, in pence."""

    amount: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What can be ordered. `postage` and `discount` are pence, both of zero or more; no customer: a guest."""

    number: str
    time: datetime
    customer: str | None
    country: str
    goods: tuple[Good, ...]
    postage: int = 0
    discount: int = 0
    rows: int = 0  # how many rows of the file are in it
    postage_units: int = 0  # the quantities on its rows of postage

    @property
    def units(self) -> int:
        """Units of goods."""
        return sum(good.quantity for good in self.goods)

    @property
    def total(self) -> int:
        """Pence to be paid."""
        return sum(good.amount for good in self.goods) + self.postage - self.discount

    def key(self, label: str = "") -> UUID:
        """What its requests derive their ids from: the same for the same invoice in whichever file, and another with another label."""
        content = [label, self.number, self.customer, self.country, self.postage, self.discount]
        text = json.dumps([*content, *([good.sku, good.quantity, good.price] for good in self.goods)])
        return uuid5(_NAMESPACE, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a file holds: every row of it stands in an invoice or is left, with its reason."""

    invoices: tuple[Invoice, ...]
    left: tuple[Left, ...]
    rows: int


def read(path: Path) -> Ledger:
    """The invoices of a file. Raises FileFault where it cannot be read at all."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFault(f"{path} cannot be read: {error.strerror}.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # the data set's older editions
    return parse(text)


def parse(text: str) -> Ledger:
    """The invoices in a CSV text, in the order of their first rows. Raises FileFault where it has not the columns of invoices."""
    rows = list(_rows(text))
    by_number: dict[str, list[Row]] = {}
    for row in rows:
        by_number.setdefault(row.invoice, []).append(row)
    invoices: list[Invoice] = []
    left: list[Left] = []
    for number, of_invoice in by_number.items():
        invoice, unused = _invoice(number, of_invoice)
        left += unused
        if invoice:
            invoices.append(invoice)
    return Ledger(tuple(invoices), tuple(sorted(left, key=lambda entry: entry.row.line)), len(rows))


def _rows(text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        places = _places([name.strip() for name in next(reader, [])])
        for fields in reader:
            if any(field.strip() for field in fields):
                values = {name: fields[place].strip() if place < len(fields) else "" for name, place in places.items()}
                yield Row(reader.line_num, **values)
    except csv.Error as error:
        raise FileFault(f"Line {reader.line_num} is not CSV: {error}.") from error


def _places(header: list[str]) -> dict[str, int]:
    """In which place of a row each column stands."""
    places = {name: next((header.index(name) for name in names if name in header), None) for name, names in COLUMNS.items()}
    missing = [COLUMNS[name][0] for name, place in places.items() if place is None]
    if missing:
        raise FileFault(f"These are not invoices: the first line names no column {', '.join(missing)}.")
    return {name: place for name, place in places.items() if place is not None}


def _invoice(number: str, rows: list[Row]) -> tuple[Invoice | None, list[Left]]:
    """The order that the rows of one invoice make, if they make one, and the rows that are no part of it."""
    left: list[Left] = []
    used: list[tuple[Row, Good | Postage | Discount]] = []
    for row in rows:
        try:
            used.append((row, _entry(row)))
        except _Unusable as fault:
            left.append(Left(row, str(fault)))
    if _of(used, Discount) > _of(used, Good):
        left += [Left(row, "a discount of more than the goods cost") for row, entry in used if isinstance(entry, Discount)]
        used = [(row, entry) for row, entry in used if not isinstance(entry, Discount)]
    goods = tuple(entry for _, entry in used if isinstance(entry, Good))
    if not 0 < len(goods) <= LINES_MAX:
        reason = f"an invoice of more than {LINES_MAX} lines" if goods else "an invoice without goods"
        return None, left + [Left(row, reason) for row, _ in used]
    invoice = Invoice(
        number=number,
        time=min(_time(row) for row, _ in used),
        customer=next((row.customer.removesuffix(".0") for row, _ in used if row.customer), None),
        country=used[0][0].country,
        goods=goods,
        postage=_of(used, Postage),
        discount=_of(used, Discount),
        rows=len(used),
        postage_units=sum(row.units for row, entry in used if isinstance(entry, Postage)),
    )
    return invoice, left


def _of(used: list[tuple[Row, Good | Postage | Discount]], kind: type[Good | Postage | Discount]) -> int:
    """What the rows of one kind amount to, in pence."""
    return sum(entry.amount for _, entry in used if isinstance(entry, kind))


def _entry(row: Row) -> Good | Postage | Discount:
    """What the row is to the order. Raises _Unusable with the reason where it is nothing to it."""
    if not row.invoice:
        raise _Unusable("no invoice number")
    if row.invoice[0] in "Cc":
        raise _Unusable(RETURN)
    if max(len(row.invoice), len(row.sku), len(row.customer)) > NAME_LENGTH_MAX:
        raise _Unusable(f"a number or code of more than {NAME_LENGTH_MAX} characters")
    quantity, price, code = _quantity(row), _price(row), row.sku.upper()
    _time(row)
    if code == DISCOUNT:
        if quantity * price >= 0:
            raise _Unusable("a discount that takes nothing off")
        return Discount(-quantity * price)
    if quantity < 0:
        raise _Unusable("a negative quantity outside a credit note")
    if price < 0:
        raise _Unusable("a negative price")
    if quantity == 0:
        raise _Unusable("no units")
    if code in FEES:
        raise _Unusable("a fee of the shop's own, not goods")
    if code in POSTAGE:
        return Postage(quantity * price)
    if not row.sku:
        raise _Unusable("no stock code")
    return Good(row.sku, quantity, price)


def _quantity(row: Row) -> int:
    quantity = _whole(row.quantity)
    if quantity is None:
        raise _Unusable("a quantity that is no whole number")
    if abs(quantity) > QUANTITY_MAX:
        raise _Unusable(f"a quantity of more than {QUANTITY_MAX:,}")
    return quantity


def _price(row: Row) -> int:
    """Pence."""
    pounds = _decimal(row.price)
    if pounds is None:
        raise _Unusable("a price that is no number")
    pence = pounds * PENCE
    if pence != pence.to_integral_value():
        raise _Unusable("a price with a fraction of a penny")
    if abs(pence) > PRICE_MAX:
        raise _Unusable(f"a price of more than {PRICE_MAX // PENCE:,} pounds")
    return int(pence)


def _time(row: Row) -> datetime:
    for form in TIME_FORMATS:
        try:
            return datetime.strptime(row.time, form)  # noqa: DTZ007  the file says no zone, and none is made up
        except ValueError:
            continue
    raise _Unusable("a date that cannot be read")


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
