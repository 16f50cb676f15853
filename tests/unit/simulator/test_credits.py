"""The units that credit notes return of a file's invoices, and the reason for each row that returns
none.
"""

import pytest

from simulator.credits import Credit
from simulator.ledger import Ledger, parse
from tests.unit.simulator.test_invoices import HEADER, row


def book(*rows: str) -> Ledger:
    """Three invoices of one customer, one of another and one of a guest, followed by these rows."""
    before = [
        row(invoice="1", quantity="6", date="01-12-10 8:00"),
        row(invoice="1", sku="22139", quantity="3", date="01-12-10 8:00"),
        row(invoice="1", quantity="2", price="2.10", date="01-12-10 8:00"),
        row(invoice="2", quantity="4", date="01-12-10 9:00"),
        row(invoice="3", quantity="9", date="01-12-10 18:00"),
        row(invoice="4", quantity="9", customer="5"),
        row(invoice="5", sku="GUEST", quantity="9", customer=""),
    ]
    return parse("\n".join([HEADER, *before, *rows]))


def credit(**changes: str) -> str:
    """Returns a row of a credit note."""
    return row(**({"invoice": "C9", "quantity": "-1", "date": "01-12-10 12:00"} | changes))


def returned_lines(found: tuple[Credit, ...]) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(each.note, each.invoice.number, each.lines) for each in found]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([credit()], [("C9", "2", ((1, 1),))]),  # the latest invoice before the credit
        ([credit(price="2.10", quantity="-2")], [("C9", "1", ((3, 2),))]),  # by its price
        # more units than one invoice has
        ([credit(quantity="-7")], [("C9", "1", ((1, 3),)), ("C9", "2", ((1, 4),))]),
        # rows of one note together
        (
            [credit(sku="22139"), credit(), credit()],
            [("C9", "1", ((2, 1),)), ("C9", "2", ((1, 2),))],
        ),
        # rows of separate notes
        ([credit(), credit(invoice="c10")], [("C9", "2", ((1, 1),)), ("c10", "2", ((1, 1),))]),
        ([credit(customer="17850.0")], [("C9", "2", ((1, 1),))]),
        ([credit(customer="5", quantity="-9")], [("C9", "4", ((1, 9),))]),
    ],
)
def test_credit_returns_units_of_the_customer_invoices(
    rows: list[str], expected: list[object]
) -> None:
    """A credit matches by customer, SKU and price, the latest invoice before it first. The result
    has every row of it.
    """
    ledger = book(*rows)
    # tuples of one record
    assert sorted(returned_lines(ledger.credits)) == sorted(expected)  # type: ignore[type-var]
    assert ledger.unused == ()
    assert sum(each.rows for each in ledger.credits) == len(rows)


def test_second_credit_returns_no_unit_again() -> None:
    """Units that one row returned are not available to the next. A row of more units than remain
    returns none.
    """
    ledger = book(
        credit(quantity="-8"),
        credit(invoice="C10", quantity="-3"),
        credit(invoice="C11", quantity="-2"),
    )
    assert sum(each.units for each in ledger.credits) == 10
    assert [unused.reason for unused in ledger.unused] == [
        "more units than its customer's earlier invoices in the file have left"
    ]
    assert [unused.row.invoice for unused in ledger.unused] == ["C10"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sku": "D"}, "a discount afterwards, no goods"),
        ({"sku": "post", "price": "18"}, "postage given back, no goods"),
        ({"sku": "AMAZONFEE"}, "a fee of the shop's own, not goods"),
        ({"quantity": "1"}, "a credit that gives nothing back"),
        ({"quantity": "0"}, "a credit that gives nothing back"),
        ({"quantity": "-1.5"}, "a quantity that is no whole number"),
        ({"price": "x"}, "a price that is no number"),
        ({"date": "?"}, "a date that cannot be read"),
        ({"sku": "x" * 65}, "a number or code of more than 64 characters"),
        ({"customer": "", "sku": "GUEST"}, "a credit without a customer"),
        ({"customer": "77"}, "no earlier invoice of its customer in the file has it"),
        ({"sku": "22140"}, "no earlier invoice of its customer in the file has it"),
        ({"date": "01-12-10 7:59"}, "no earlier invoice of its customer in the file has it"),
        ({"price": "2.54"}, "no earlier invoice of its customer in the file has it at this price"),
        (
            {"quantity": "-11"},
            "more units than its customer's earlier invoices in the file have left",
        ),
    ],
)
def test_row_without_a_match_is_left_with_its_reason(changes: dict[str, str], reason: str) -> None:
    """A row without a match is listed by its line, and takes no units from the other rows."""
    ledger = book(credit(**changes), credit(invoice="C10", quantity="-10"))
    assert [(unused.row.line, unused.reason) for unused in ledger.unused] == [(9, reason)]
    assert sum(each.units for each in ledger.credits) == 10


def test_units_and_pence_of_a_credit() -> None:
    """The amount is at the prices of the invoice."""
    [first] = book(credit(sku="22139", quantity="-2"), credit(price="2.10")).credits
    assert (first.units, first.amount) == (3, 2 * 255 + 210)


def test_key_depends_on_the_returned_units() -> None:
    """The same credit has the same key; another note, other units, or another label have another
    one.
    """
    [first] = book(credit()).credits
    others = [credit(invoice="C8"), credit(quantity="-2"), credit(sku="22139")]
    keys = {each.key() for other in others for each in book(other).credits}
    assert len(keys | {first.key(), first.key("again")}) == len(others) + 2
    assert book(credit(), row(invoice="7")).credits[0].key() == first.key()
