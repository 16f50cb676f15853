"""The orders that an invoice file becomes, exact to the penny, and the reason for each row that it
leaves out.
"""

import csv
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulator.invoices import Good
from simulator.ledger import FileFault, Ledger, parse, read

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
DATE = "01-12-10 8:26"


def book(*rows: str) -> Ledger:
    """Returns the ledger of these rows under the usual header."""
    return parse("\n".join([HEADER, *rows]))


def row(**changes: str) -> str:
    """Returns a valid row, with changes by the names of its columns in lower case."""
    fields = {
        "invoice": "536365",
        "sku": "85123A",
        "description": "HEART",
        "quantity": "6",
        "date": DATE,
        "price": "2.55",
        "customer": "17850",
        "country": "United Kingdom",
    }
    return ",".join((fields | changes).values())


def test_invoice_becomes_an_order_with_exact_pence() -> None:
    """Goods, customer, country and time equal those of the file. Prices are whole pence for any
    number of digits.
    """
    [invoice] = book(
        row(), row(sku="22139", quantity="3", price="27.5"), row(sku="22752", price="7")
    ).invoices
    assert (invoice.number, invoice.customer, invoice.country) == (
        "536365",
        "17850",
        "United Kingdom",
    )
    assert invoice.time == datetime(2010, 12, 1, 8, 26)  # noqa: DTZ001  the file says no zone
    assert invoice.goods == (Good("85123A", 6, 255), Good("22139", 3, 2750), Good("22752", 6, 700))
    assert (invoice.units, invoice.total) == (15, 6 * 255 + 3 * 2750 + 6 * 700)


def test_same_sku_twice_is_two_lines() -> None:
    """Rows of one SKU are separate lines, also at one price."""
    [invoice] = book(row(), row(price="2.10"), row()).invoices
    assert [(good.sku, good.price) for good in invoice.goods] == [
        ("85123A", 255),
        ("85123A", 210),
        ("85123A", 255),
    ]


def test_postage_and_discount_rows_change_only_the_total() -> None:
    """POST, DOT and C2 become the order's postage, D its discount: they change the total and are
    not picked.
    """
    [invoice] = book(
        row(),
        row(sku="POST", quantity="3", price="18"),
        row(sku="DOT", quantity="1", price="1.01"),
        row(sku="d", quantity="-1", price="5"),
    ).invoices
    assert (invoice.postage, invoice.discount, invoice.postage_units, invoice.units) == (
        5501,
        500,
        4,
        6,
    )
    assert invoice.total == 6 * 255 + 5501 - 500
    assert invoice.rows == 4


def test_free_of_charge_and_without_a_customer() -> None:
    """A row with a price of zero, an empty description and no customer is valid: a guest's order of
    total zero.
    """
    [invoice] = book(row(description="", quantity="56", price="0", customer="")).invoices
    assert (invoice.total, invoice.customer, invoice.units) == (0, None, 56)


def test_separate_rows_of_one_number_are_one_invoice() -> None:
    """The number alone identifies an invoice; invoices have the order of their first rows."""
    ledger = book(row(invoice="1"), row(invoice="2"), row(invoice="1", sku="X"))
    assert [(invoice.number, invoice.rows) for invoice in ledger.invoices] == [("1", 2), ("2", 1)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"invoice": ""}, "no invoice number"),
        ({"quantity": "-2"}, "a negative quantity outside a credit note"),
        ({"sku": "POST", "quantity": "-2"}, "a negative quantity outside a credit note"),
        ({"quantity": "0"}, "no units"),
        ({"quantity": "six"}, "a quantity that is no whole number"),
        ({"quantity": "1.5"}, "a quantity that is no whole number"),
        ({"quantity": "1000001"}, "a quantity of more than 1,000,000"),
        ({"price": "0.001"}, "a price with a fraction of a penny"),
        ({"price": "-1"}, "a negative price"),
        ({"price": "1e3"}, "a price that is no number"),
        ({"price": "NaN"}, "a price that is no number"),
        ({"price": ""}, "a price that is no number"),
        ({"price": "1000000001"}, "a price of more than 10,000,000 pounds"),
        ({"sku": ""}, "no stock code"),
        ({"sku": "x" * 65}, "a number or code of more than 64 characters"),
        ({"customer": "1" * 65}, "a number or code of more than 64 characters"),
        ({"sku": "D"}, "a discount that takes nothing off"),
        ({"sku": "D", "quantity": "-1", "price": "1000"}, "a discount of more than the goods cost"),
        ({"sku": "AMAZONFEE"}, "a fee of the shop's own, not goods"),
        ({"date": "31-11-10 8:26"}, "a date that cannot be read"),
        ({"date": ""}, "a date that cannot be read"),
    ],
)
def test_unusable_row_is_left_with_its_reason(changes: dict[str, str], reason: str) -> None:
    """A row that belongs to no order is listed by its line and its reason, and the rest of the
    invoice is ordered.
    """
    ledger = book(row(), row(**changes), row(sku="22139"))
    assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [(3, reason)]
    assert [invoice.rows for invoice in ledger.invoices] == [2]
    assert ledger.rows == 3


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(sku="POST"), row(sku="POST", price="3")], "an invoice without goods"),
        ([row(sku=f"sku {number}") for number in range(501)], "an invoice of more than 500 lines"),
    ],
)
def test_unusable_invoice_is_left_with_all_its_rows(rows: list[str], reason: str) -> None:
    """If an invoice becomes no order, each of its rows is listed."""
    ledger = book(*rows)
    assert ledger.invoices == ()
    assert {unused.reason for unused in ledger.unused} == {reason}
    assert len(ledger.unused) == ledger.rows == len(rows)


def test_orders_returns_and_left_rows_add_up_to_the_file() -> None:
    """Orders, returns and unused rows add up to the file, in rows and in money."""
    ledger = book(
        row(),
        row(sku="POST", price="18"),
        row(invoice="C1", quantity="-6"),
        row(invoice="2", price="0.105"),
        row(invoice="3", sku="D", quantity="-1"),
    )
    [credit] = ledger.credits
    assert (
        sum(invoice.rows for invoice in ledger.invoices) + credit.rows + len(ledger.unused)
        == ledger.rows
        == 5
    )
    amounts = [unused.row.units * Decimal(unused.row.price) for unused in ledger.unused]
    assert sum(amounts, Decimal()) == Decimal("0.63") - Decimal("2.55")
    assert credit.amount == 1530


@pytest.mark.parametrize(
    "date",
    [
        "01-12-10 8:26",
        "01-12-2010 08:26",
        "2010-12-01 08:26",
        "2010-12-01 08:26:00",
        "12/1/2010 8:26",
        "12/1/10 8:26",
    ],
)
def test_dates_of_all_editions(date: str) -> None:
    """The editions of the data set write the same time in different ways."""
    [invoice] = book(row(date=date)).invoices
    assert invoice.time == datetime(2010, 12, 1, 8, 26)  # noqa: DTZ001  the file says no zone


def test_columns_are_found_by_name() -> None:
    """The second edition has other names, and customers as decimals. An additional or moved column
    changes nothing.
    """
    ledger = parse(
        "Country,Customer"
        " ID,Price,More,InvoiceDate,Quantity,StockCode,Invoice\nEIRE,17850.0,2.55,?,2010-12-01"
        " 08:26:00,6,A,1\n"
    )
    assert [(invoice.number, invoice.customer, invoice.total) for invoice in ledger.invoices] == [
        ("1", "17850", 1530)
    ]


def test_quoted_fields_and_empty_lines() -> None:
    """A description with a comma or a line break stays in its row. An unused row is listed by the
    line on which it ends.
    """
    ledger = book(
        row(description='"HEART, WHITE"'),
        "",
        row(invoice="C1", description='"two\nlines"'),
        ",,,,,,,",
        row(sku="B2"),
    )
    assert [invoice.rows for invoice in ledger.invoices] == [2]
    assert [unused.row.line for unused in ledger.unused] == [5]
    assert ledger.rows == 3


def test_row_that_ends_early_is_unused() -> None:
    """Missing fields count as empty, and the reason names them."""
    assert [unused.reason for unused in book("536365,85123A,HEART,6").unused] == [
        "a price that is no number"
    ]


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "InvoiceNo,StockCode\n"])
def test_file_without_invoices_is_refused(text: str) -> None:
    """A file without the columns of invoices is refused as a whole, with the missing columns."""
    with pytest.raises(FileFault, match=r"names no column .*Quantity"):
        parse(text)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """The message names the file and the fault."""
    with pytest.raises(FileFault, match=r"nothing\.csv cannot be read: No such file"):
        read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """Files with a byte order mark, and files older than Unicode, are read the same."""
    path = tmp_path / "invoices.csv"
    path.write_bytes(f"{HEADER}\n{row(sku='CAFÉ 1')}\n".encode(encoding))
    [invoice] = read(path).invoices
    assert invoice.goods[0].sku == "CAFÉ 1"


def test_key_depends_on_the_ordered_lines() -> None:
    """The same invoice has the same key in any file; another number, line or label has another
    one.
    """
    [first] = book(row()).invoices
    assert first.key() == book(row(invoice="1"), row(description="other words")).invoices[1].key()
    others = [
        row(invoice="1"),
        row(quantity="7"),
        row(price="2.56"),
        row(customer="1"),
        row(country="France"),
    ]
    keys = {book(other).invoices[0].key() for other in others}
    assert len(keys | {first.key(), first.key("again")}) == len(others) + 2


def test_unclosed_quote_costs_its_own_row_alone() -> None:
    """Of twenty rows the seventh has an unclosed quote: nineteen are ordered, whether or not later
    rows have quotes.
    """
    for behind in ("HEART", '"HEART, RED"'):
        rows = [
            row(invoice=str(number), description=behind if number > 7 else "HEART")
            for number in range(1, 21)
        ]
        rows[6] = row(invoice="7", description='"HEART')
        ledger = book(*rows)
        assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [
            (8, "a quote that is not closed")
        ]
        assert (len(ledger.invoices), ledger.rows) == (19, 20)


@pytest.mark.parametrize("between", [0, 1, 6, 8])
def test_quote_closed_by_another_row_costs_one_row(between: int) -> None:
    """A quote that a later row closes counts as unclosed: the valid rows between and the later row
    are ordered.
    """
    opened, closed = row(invoice="1", description='"HEART'), row(description='HEART"')
    ledger = book(opened, *[row()] * between, closed)
    assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [
        (2, "a quote that is not closed")
    ]
    assert [invoice.rows for invoice in ledger.invoices] == [between + 1]
    assert ledger.rows == between + 2


def test_header_alone_is_a_file_without_rows() -> None:
    """No row is ordered, and none is left out."""
    assert book() == book("", "") == Ledger(invoices=(), unused=(), rows=0)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found_in_the_header(delimiter: str) -> None:
    """Semicolons or tabs separate the columns. With semicolons, as spreadsheets write them, a comma
    separates the pence.
    """
    text = "\n".join([HEADER, row(description="HEART. WHITE")]).replace(",", delimiter)
    ledger = parse(text.replace("2.55", "2,55") if delimiter == ";" else text)
    assert [(invoice.total, invoice.rows) for invoice in ledger.invoices] == [(1530, 1)]


def test_header_at_fault_names_the_delimiter() -> None:
    """The message about a missing column of a file with semicolons names the semicolons."""
    with pytest.raises(
        FileFault,
        match=(
            r"split at semicolons, names no column Country\. Fields may stand between commas,"
            r" semicolons or"
        ),
    ):
        parse(HEADER.replace(",", ";").removesuffix(";Country"))


@pytest.mark.parametrize("column", ["invoice", "sku", "customer", "country"])
@pytest.mark.parametrize("character", ["\0", "\x1b", "\u200b", "\u2028"])
def test_unprintable_character_costs_its_own_row_alone(column: str, character: str) -> None:
    """A NUL, for example, would cause a refusal of the whole invoice: its other rows are
    ordered.
    """
    ledger = book(row(), row(**{column: f"5{character}6"}), row(sku="B2"))
    assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [
        (3, "a character that is not to be printed")
    ]
    assert [invoice.rows for invoice in ledger.invoices] == [2]


def test_row_with_too_many_fields_is_unused() -> None:
    """A comma outside quotes moves all later fields. Empty fields at the end are permitted."""
    ledger = book(row(description="HEART, WHITE"), row() + ",,")
    assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [
        (2, "more than 8 fields")
    ]
    assert [invoice.rows for invoice in ledger.invoices] == [1]


LINES = st.lists(
    st.one_of(
        st.sampled_from([row(), row(description='"HEART'), row(description='HEART"')]),
        st.text('",;\r\0C-6A \u2028x', max_size=12),
        st.text(max_size=12),
    ),
    max_size=12,
)


def fields_of(line: str, delimiter: str) -> list[str] | None:
    """Returns the fields of a line alone, without surrounding white space; None if it cannot be
    read.
    """
    try:
        return [
            field.strip() for field in next(csv.reader([line], delimiter=delimiter, strict=True))
        ]
    except csv.Error:
        return None


def is_row_alone(fields: list[str] | None) -> bool:
    return fields is not None and len(fields) == len(HEADER.split(",")) and any(fields)


def is_blank(fields: list[str] | None) -> bool:
    return fields is not None and not any(fields)


@given(
    lines=LINES,
    header=st.sampled_from([HEADER, HEADER.replace(",", ";"), f'"{HEADER}"'.replace(",", '","')]),
)
@example(lines=["\u2028"], header=HEADER)
def test_every_row_is_accounted_for_in_any_file(lines: list[str], header: str) -> None:
    """Each row is in an order, in a return, or unused with its reason. A line is at most one row; a
    line that is a row alone is one, and lines between two such are one at least, unless all of
    them are blank. Without quotes each line is a row, unless all its fields are blank.
    """
    ledger = parse("\n".join([header, *lines]))
    ordered, returned = (
        sum(invoice.rows for invoice in ledger.invoices),
        sum(credit.rows for credit in ledger.credits),
    )
    assert ordered + returned + len(ledger.unused) == ledger.rows
    assert all(unused.reason for unused in ledger.unused)
    written = "\n".join(lines).replace("\r", "\n").split("\n")
    fields = [fields_of(line, ";" if ";" in header else ",") for line in written]
    runs = [(alone, list(run)) for alone, run in groupby(fields, is_row_alone)]
    least = sum(len(run) if alone else not all(map(is_blank, run)) for alone, run in runs)
    assert least <= ledger.rows <= len(written)
    if not any('"' in line for line in lines):
        assert ledger.rows == sum(not is_blank(each) for each in fields)
