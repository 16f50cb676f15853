"""`omctl stock ...`: its requests and its output."""

import json

from tests.unit.omctl.samples import REQUEST_ID
from tests.unit.omctl.server import Fake, Omctl


def test_stock_is_listed_and_received(omctl: Omctl, fake: Fake) -> None:
    """Figures are aligned right, sellable first. A receipt sends SKU and quantity, and shows the
    new stock.
    """
    lines = omctl("stock", "list").stdout.splitlines()
    assert lines[:3] == [
        "WAREHOUSE  SKU    SELLABLE  AVAILABLE  RESERVED  COMMITTED  DAMAGED",
        "london-1   SKU 0        10         10         0          0        0",
        "london-1   SKU 1         9         10         1          0        0",
    ]
    assert len(lines) == 6
    result = omctl(
        "stock",
        "receive",
        "london-1",
        "--item",
        "TEAPOT:10",
        "--item",
        "a:b:2",
        "--note",
        "order 7",
    )
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    request = fake.requests[-1]
    assert (request.warehouse_id, [(line.sku, line.quantity) for line in request.lines]) == (
        "london-1",
        [("TEAPOT", 10), ("a:b", 2)],
    )
    assert request.note == "order 7"
    received = json.loads(
        omctl("stock", "receive", "london-1", "--item", "TEAPOT:10", "--json").stdout
    )
    assert received["stockLevels"][0] == {
        "warehouseId": "london-1",
        "sku": "SKU 0",
        "available": "10",
        "sellable": "10",
    } | dict.fromkeys(("reserved", "committed", "damaged", "version"), "0")


def test_stock_adjust_sends_the_count(omctl: Omctl, fake: Fake) -> None:
    """A count corrects one SKU of one warehouse, up or down; the output has the new available
    units.
    """
    count = (
        "stock",
        "adjust",
        "london-1",
        "TEAPOT",
        "--note",
        "counted",
        "--request-id",
        REQUEST_ID,
    )
    result = omctl(*count, "--delta", "-3")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    request = fake.requests[-1]
    assert (request.request_id, request.note) == (REQUEST_ID, "counted")
    assert (request.warehouse_id, request.sku, request.delta) == ("london-1", "TEAPOT", -3)
    shown = json.loads(omctl(*count, "--delta", "3", "--json").stdout)
    assert (fake.requests[-1].delta, shown["stockLevel"]["sku"]) == (3, "SKU 0")


def test_stock_filters_are_sent(omctl: Omctl, fake: Fake) -> None:
    """The filters are one warehouse and some SKUs."""
    omctl("stock", "list", "--warehouse", "leeds-1", "--sku", "A", "--sku", "B", "--limit", "1")
    [request] = fake.requests
    assert (request.warehouse_id, list(request.skus), request.page_size) == (
        "leeds-1",
        ["A", "B"],
        1,
    )
