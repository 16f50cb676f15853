"""Reads a CSV file of invoices: the orders, their returns, and the rows that are left out. Pure
except `read`.

The format is that of the Online Retail data set: one row a line, InvoiceNo, StockCode, Description,
Quantity, InvoiceDate (day-month-year), UnitPrice, CustomerID, Country, between commas, semicolons
or tabs. A number that begins with C is a credit note's, and its quantities are negative.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulator.credits import Credit, match
from simulator.invoices import Invoice, Row, UnusedRow, invoice_of

# Columns, by their names in the editions of the data set.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "invoice": ("InvoiceNo", "Invoice"),
    "sku": ("StockCode",),
    "quantity": ("Quantity",),
    "time": ("InvoiceDate",),
    "price": ("UnitPrice", "Price"),
    "customer": ("CustomerID", "Customer ID"),
    "country": ("Country",),
}


DELIMITERS: Final[Mapping[str, str]] = {",": "commas", ";": "semicolons", "\t": "tabs"}
LINES_OF_ROW_MAX: Final = 10
UNCLOSED: Final = "unexpected end of data"  # as csv says it


class FileFault(Exception):
    """The file cannot be read as invoices; the text has the reason and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The content of a file. Each row is in an invoice or a credit, or left out with its reason."""

    invoices: tuple[Invoice, ...]
    unused: tuple[UnusedRow, ...]
    rows: int
    credits: tuple[Credit, ...] = ()


def read(path: Path) -> Ledger:
    """Returns the ledger of a file. Raises FileFault if the file cannot be read."""
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
    """Returns the invoices in a CSV text, in the order of their first rows, and their credits.

    Raises FileFault if it lacks a column of invoices.
    """
    rows = list(_rows(text))
    by_number: dict[str, list[Row]] = {}
    notes: list[Row] = []
    unused: list[UnusedRow] = []
    for row in rows:
        if isinstance(row, UnusedRow):
            unused.append(row)
        elif row.invoice[:1] in ("C", "c"):
            notes.append(row)
        else:
            by_number.setdefault(row.invoice, []).append(row)
    invoices: list[Invoice] = []
    for number, of_invoice in by_number.items():
        invoice, rest = invoice_of(number, of_invoice)
        unused += rest
        if invoice:
            invoices.append(invoice)
    credited, unmatched = match(notes, invoices)
    return Ledger(
        invoices=tuple(invoices),
        unused=tuple(sorted([*unused, *unmatched], key=lambda entry: entry.row.line)),
        rows=len(rows),
        credits=tuple(credited),
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """The format of rows, from the header: the delimiter, the number of fields, and the position of
    each column.
    """

    delimiter: str
    width: int
    places: Mapping[str, int]

    def row(self, line: int, fields: Sequence[str]) -> Row:
        """Returns the row of these fields, which ends on that line."""
        values = {
            name: fields[place].strip() if place < len(fields) else ""
            for name, place in self.places.items()
        }
        if self.delimiter == ";":  # then the decimal separator is a comma
            values["price"] = values["price"].replace(",", ".", 1)
        return Row(line=line, **values)

    def fields(self, text: str) -> list[str]:
        """Returns the fields of one row. Raises csv.Error."""
        [fields] = csv.reader([text], delimiter=self.delimiter, strict=True)
        return fields

    def whole(self, fields: Sequence[str]) -> bool:
        """Returns whether the row has at most as many fields as the header; empty fields at the end
        do not count.
        """
        return not any(field.strip() for field in fields[self.width :])

    def is_row(self, line: str) -> bool:
        """Returns whether this line alone is a row with a field for each name of the header."""
        try:
            fields = self.fields(line)
        except csv.Error:
            return False
        return len(fields) >= self.width and self.whole(fields)


def _rows(text: str) -> Iterator[Row | UnusedRow]:
    """Yields every row of the file, parsed or left out with its reason. Each line that is not blank
    is in one row. Raises FileFault for the header.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    columns = _columns(lines[0])
    place = 1
    while place < len(lines):
        used, found = _row(columns, lines, place)
        if found is not None:
            yield found
        place += used


def _row(columns: _Columns, lines: Sequence[str], place: int) -> tuple[int, Row | UnusedRow | None]:
    """Returns the number of lines of the row at this place, and the row; None if it is blank.

    A field in quotes may continue over LINES_OF_ROW_MAX lines, none of which after the first is a
    row alone. If a quote is not closed there, only the row's first line is left out.
    """
    fault = ""
    for count in range(1, 1 + min(LINES_OF_ROW_MAX, len(lines) - place)):
        if count > 1 and columns.is_row(lines[place + count - 1]):
            break
        try:
            fields = columns.fields("\n".join(lines[place : place + count]))
        except csv.Error as error:
            fault = fault or str(error)
            if fault != UNCLOSED:
                break
            continue
        if count > 1 and len(fields) < columns.width:
            continue
        if not columns.whole(fields):
            fault = fault or f"more than {columns.width} fields"
            break
        blank = not any(field.strip() for field in fields)
        return count, None if blank else columns.row(place + count, fields)
    reason = "a quote that is not closed" if fault == UNCLOSED else fault
    return 1, UnusedRow(Row(line=place + 1, invoice="", sku="", quantity="", price=""), reason)


def _columns(header: str) -> _Columns:
    """Returns the columns of the file, with the first delimiter that yields them all. Raises
    FileFault if none does.
    """
    faults = []
    for delimiter, name in DELIMITERS.items():
        names = [each.strip().strip('"') for each in header.split(delimiter)]
        places = {
            column: next((names.index(each) for each in known if each in names), None)
            for column, known in COLUMNS.items()
        }
        missing = [COLUMNS[column][0] for column, place in places.items() if place is None]
        if not missing:
            return _Columns(
                delimiter,
                len(names),
                {column: place for column, place in places.items() if place is not None},
            )
        faults.append(
            (
                len(missing),
                (
                    f"These are not invoices: the first line, split at {name}, names no column"
                    f" {', '.join(missing)}."
                ),
            )
        )
    raise FileFault(f"{min(faults)[1]} Fields may stand between commas, semicolons or tabs.")
