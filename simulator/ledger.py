"""A file of invoices, read from CSV: what can be ordered, what comes back of that, and what is left. Pure but for `read`.

The format is that of the Online Retail data set: one row a line, InvoiceNo, StockCode, Description, Quantity, InvoiceDate
(day-month-year), UnitPrice, CustomerID, Country. A number that begins with C is a credit note's, and its quantities are negative.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulator.credits import Credit, match
from simulator.invoices import Invoice, Left, Row, invoice_of

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


class FileFault(Exception):
    """The file as a whole cannot be read as invoices; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a file holds: every row of it stands in an invoice, in a credit, or is left, with its reason."""

    invoices: tuple[Invoice, ...]
    left: tuple[Left, ...]
    rows: int
    credits: tuple[Credit, ...] = ()


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
    """The invoices in a CSV text, in the order of their first rows, and what its credit notes give back of them.

    Raises FileFault where it has not the columns of invoices.
    """
    rows = list(_rows(text))
    by_number: dict[str, list[Row]] = {}
    notes: list[Row] = []
    for row in rows:
        if row.invoice[:1] in ("C", "c"):
            notes.append(row)
        else:
            by_number.setdefault(row.invoice, []).append(row)
    invoices: list[Invoice] = []
    left: list[Left] = []
    for number, of_invoice in by_number.items():
        invoice, unused = invoice_of(number, of_invoice)
        left += unused
        if invoice:
            invoices.append(invoice)
    credited, unmatched = match(notes, invoices)
    return Ledger(tuple(invoices), tuple(sorted([*left, *unmatched], key=lambda entry: entry.row.line)), len(rows), tuple(credited))


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
