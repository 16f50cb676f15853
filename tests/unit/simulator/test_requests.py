"""The requests of shoppers and of the shop: a repeat is equal, and amounts and stock are those of
the invoice.
"""

import pytest

from chassis.values.money import from_message
from simulator import requests
from simulator.countries import UNKNOWN, code_of
from simulator.invoices import Good, Invoice
from tests.unit.simulator.samples import INVOICE


def test_invoice_becomes_a_checkout() -> None:
    """Lines, discount and shipping add up to the invoice's total. The recipient is invented, and
    the country is a code.
    """
    order = requests.checkout(INVOICE)
    lines = sum(from_message(item.unit_price).minor * item.quantity for item in order.items)
    assert (
        lines
        + from_message(order.shipping_amount).minor
        - from_message(order.discount_amount).minor
        == INVOICE.total
    )
    assert [(item.sku, item.quantity) for item in order.items] == [
        ("85123A", 6),
        ("22139", 2),
        ("85123A", 1),
    ]
    assert (order.customer_id, order.external_reference) == ("17850", "536365")
    assert (order.recipient.name, order.recipient.country_code) == ("Customer 17850", "FR")


def test_guest_has_no_customer() -> None:
    """Without a customer, a discount or postage the fields are unset, not empty or zero."""
    order = requests.checkout(
        Invoice(number="1", time=INVOICE.time, customer=None, country="", goods=(Good("A", 1, 0),))
    )
    assert not any(
        order.HasField(name) for name in ("customer_id", "discount_amount", "shipping_amount")
    )
    assert order.recipient.country_code == UNKNOWN


def test_same_invoice_makes_the_same_requests() -> None:
    """The same invoice makes the same requests, byte for byte. Under another label each of them
    differs.
    """
    assert requests.checkout(INVOICE) == requests.checkout(INVOICE)
    assert requests.stock_for(INVOICE) == requests.stock_for(INVOICE)
    orders = {requests.checkout(INVOICE, label).request_id for label in ("", "again")}
    receipts = {
        receipt.request_id
        for label in ("", "again")
        for receipt in requests.stock_for(INVOICE, label)
    }
    assert len(orders) == 2
    assert len(receipts) == 2 * len(requests.stock_for(INVOICE))


def test_stock_covers_exactly_the_invoice() -> None:
    """Each SKU is received once, in its warehouse, with the units of all its lines."""
    receipts = requests.stock_for(INVOICE)
    assert {receipt.warehouse_id for receipt in receipts} <= set(requests.WAREHOUSES)
    received = {
        line.sku: (receipt.warehouse_id, line.quantity)
        for receipt in receipts
        for line in receipt.lines
    }
    assert received == {
        "85123A": (requests.home("85123A"), 7),
        "22139": (requests.home("22139"), 2),
    }


def test_skus_are_distributed_over_both_warehouses() -> None:
    """More than one warehouse serves a basket of several SKUs."""
    homes = [requests.home(f"sku {number}") for number in range(300)]
    assert all(homes.count(warehouse) > 50 for warehouse in requests.WAREHOUSES)


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("United Kingdom", "GB"),
        ("EIRE", "IE"),
        (" france ", "FR"),
        ("Australia", "AU"),
        ("Netherlands", "NL"),
        ("Unspecified", "ZZ"),
        ("", "ZZ"),
    ],
)
def test_countries(country: str, code: str) -> None:
    """A country is found by its name on invoices; another name is unknown."""
    assert code_of(country) == code
