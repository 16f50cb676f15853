"""Pages of a list: every row once, tokens that hold to their filter, and a clear no to every other token."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st
from ordermesh.order.v1 import order_pb2
from ordermesh.order.v1.order_service_pb2 import ListOrdersRequest, ListOrdersResponse, ListOrderTransitionsRequest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1.shipping_service_pb2 import ListShipmentsRequest, ListTrackingEventsRequest

from chassis import paging
from chassis.errors import Invalid
from chassis.paging import SIZE_DEFAULT, Listed, ListRequest, asked
from chassis.tokens import pack

ROW = UUID(int=7)


def token(request: ListRequest, *place: object, rows: int = 2) -> str:
    """The token after the first row of a page of one."""
    request.page_size = 1
    return asked(request).cut(["row"] * rows, lambda _: place)[1]


@given(st.integers(0, 40), st.integers(1, 12))
def test_pages_hold_every_row_once_in_order(total: int, size: int) -> None:
    """Whatever the size of a page, the pages together are the list; the last one has no token, and no page is empty but the only one."""
    rows = list(range(1, total + 1))
    seen: list[int] = []
    page_token, pages = "", 0
    while page_token or not pages:
        page = asked(ListTrackingEventsRequest(page_size=size, page_token=page_token), int)
        after = page.after[0] if page.after else 0
        found = [row for row in rows if row > after][: page.size + 1]
        kept, page_token = page.cut(found, lambda row: (row,))
        assert kept or not rows
        assert len(kept) <= size
        seen.extend(kept)
        pages += 1
    assert seen == rows


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 50), st.integers(0, 900))
def test_a_page_holds_no_more_lines_than_a_client_takes(lines: list[int], size: int, most: int) -> None:
    """As many records as have so many lines together, and one at least; the pages together are the list all the same."""
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "LINES_MAX", most)
        token = "first"
        while token:
            there = [Listed((n, UUID(int=n)), lines[n]) for n in range(len(seen), len(lines))][: size + 1]
            ids, token = asked(ListShipmentsRequest(page_size=size)).choose(there)
            kept = [lines[id.int] for id in ids]
            assert len(kept) <= size
            assert sum(kept) <= most or len(kept) == 1
            rest = lines[len(seen) + len(kept) :]
            assert not rest or len(kept) == size or sum(kept) + rest[0] > most
            seen += kept
    assert seen == lines


def test_a_page_of_wide_lines_is_taken_by_any_client() -> None:
    """Orders of 500 lines, each with the longest SKU, shares of three kinds, and units in two warehouses of long names: less than 4 MiB."""
    money = Money(currency_code="GBP", units=9_999_999_999, nanos=990_000_000)
    share = order_pb2.UnitShare(quantity=1_000_000, amount=money, discount_amount=money, tax_amount=money)
    somewhere = order_pb2.Allocation(warehouse_id="w" * 64, reservation_id=str(ROW), quantity=1_000_000)
    line = order_pb2.OrderItem(
        line_number=500,
        sku="S" * 64,
        quantity=1_000_000,
        unit_price=money,
        discount_amount=money,
        tax_amount=money,
        total_amount=money,
        unit_shares=[share] * 3,
        allocations=[somewhere] * 2,
    )
    page = ListOrdersResponse(orders=[order_pb2.Order(items=[line] * 500)] * (paging.LINES_MAX // 500))
    assert page.ByteSize() < 4 << 20


def test_the_first_page_starts_at_the_start() -> None:
    """Without a token there is no place to go on from, and a size of zero is the default."""
    page = asked(ListShipmentsRequest())
    assert (page.size, page.after) == (SIZE_DEFAULT, None)
    assert asked(ListShipmentsRequest(page_size=1000)).size == 1000


def test_a_place_of_several_values_comes_back_as_it_went() -> None:
    """Values of a place keep their kinds: ids, numbers, times, and text of any script."""
    place = (datetime(2026, 3, 2, 12, 30, 0, 123456, tzinfo=UTC), ROW, "Käse — 日本", -5)
    request = ListOrdersRequest(page_token=token(ListOrdersRequest(), *place))
    assert asked(request, datetime, UUID, str, int).after == place


def test_the_size_of_a_page_may_change_on_the_way() -> None:
    """A token goes on with another page_size: it is no filter."""
    page_token = token(ListShipmentsRequest(tracking_number="A"), ROW)
    page = asked(ListShipmentsRequest(tracking_number="A", page_token=page_token, page_size=9))
    assert (page.size, page.after) == (9, (ROW,))


@pytest.mark.parametrize(
    "other",
    [
        ListShipmentsRequest(),
        ListShipmentsRequest(tracking_number="B"),
        ListShipmentsRequest(tracking_number="A", order_id=str(ROW)),
        ListShipmentsRequest(tracking_number="A", statuses=[shipping_pb2.SHIPMENT_STATUS_CREATED]),
        ListOrdersRequest(customer_id="A"),  # the same bytes in another list
        ListOrderTransitionsRequest(order_id="A"),
    ],
    ids=str,
)
def test_a_token_holds_to_its_filter(other: Any) -> None:
    """A token of one filter, or of one list, is refused with any other: pages of two lists would be mixed up."""
    other.page_token = token(ListShipmentsRequest(tracking_number="A"), ROW)
    with pytest.raises(Invalid) as refused:
        asked(other)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert [violation.subject for violation in refused.value.violations] == ["page_token"]
    assert "filter" in refused.value.message


@pytest.mark.parametrize(
    ("page_token", "kinds"),
    [
        ("!", ()),
        ("é", ()),
        ("AAAA", ()),
        ("WyIiLCAiMjAyNi0xMS0yMiIsICJhIiwgImIiXQ==", ()),  # as tokens once were
        (pack(0), ()),
        (pack(0, ROW), ()),  # of another filter
        (token(ListShipmentsRequest(), ROW) + "AAAA", ()),
        (token(ListShipmentsRequest(), ROW, ROW), ()),
        (token(ListShipmentsRequest(), "tea"), ()),
        (token(ListShipmentsRequest(), "tea"), (int,)),
        (token(ListShipmentsRequest(), 2**63 - 1), (datetime,)),
        (token(ListShipmentsRequest(), "a\0b"), (str,)),
        ("x" * 2_000, ()),
        ("x" * 2_000, (str,)),
    ],
)
def test_what_is_not_a_token_of_ours_is_refused(page_token: str, kinds: Any) -> None:
    """Nothing that a caller can put into page_token is more than a bad argument; no column is asked for what it cannot hold."""
    with pytest.raises(Invalid) as refused:
        asked(ListShipmentsRequest(page_token=page_token), *kinds)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is refused, or (empty) is the first page."""
    if not text:
        return
    with pytest.raises(Invalid):
        asked(ListShipmentsRequest(page_token=text))


def test_the_request_stays_as_it_was() -> None:
    """Reading a request's page changes nothing in it."""
    request = ListShipmentsRequest(page_size=3, tracking_number="A")
    asked(request)
    assert request == ListShipmentsRequest(page_size=3, tracking_number="A")
