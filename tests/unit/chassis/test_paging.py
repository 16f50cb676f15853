"""Pages of a list: every row once, tokens bound to their filter, and a refusal of any other
token.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st
from ordermesh.order.v1 import order_pb2
from ordermesh.order.v1.order_service_pb2 import ListOrdersRequest, ListOrderTransitionsRequest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1.shipping_service_pb2 import (
    ListShipmentsRequest,
    ListTrackingEventsRequest,
)

from chassis.rpc.server import MESSAGE_BYTES_MAX
from chassis.values import paging
from chassis.values.errors import Invalid
from chassis.values.paging import SIZE_DEFAULT, Listed, page_request
from chassis.values.tokens import pack
from tests.unit.chassis.longest_tokens import characters_max

ROW = UUID(int=7)


def record(row: Any) -> Int64Value:
    """Returns a row as an answer has it."""
    return Int64Value(value=row if isinstance(row, int) else 0)


def text(size: int) -> StringValue:
    """Returns a record of this size."""
    return StringValue(value="x" * size)


def token(request: Any, *place: object, rows: int = 2) -> str:
    """Returns the token after the first row of a page of one."""
    request.page_size = 1
    return page_request(request, record).cut(["row"] * rows, lambda _: place)[1]


@given(st.integers(0, 40), st.integers(1, 12))
def test_pages_hold_every_row_once_in_order(total: int, size: int) -> None:
    """For any page size, the pages together are the list. The last one has no token, and only a
    single page may be empty.
    """
    rows = list(range(1, total + 1))
    seen: list[int] = []
    page_token, pages = "", 0
    while page_token or not pages:
        page = page_request(
            ListTrackingEventsRequest(page_size=size, page_token=page_token), record, int
        )
        after = page.after[0] if page.after else 0
        found = [row for row in rows if row > after][: page.size + 1]
        kept, page_token = page.cut(found, lambda row: (row,))
        assert kept or not rows
        assert len(kept) <= size
        seen.extend(row.value for row in kept)
        pages += 1
    assert seen == rows


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 50), st.integers(0, 900))
async def test_page_fill_stops_where_the_answer_is_full(
    sizes: list[int], size: int, most: int
) -> None:
    """A page has as many records as fit the bytes, one at least. The pages together are the list,
    and no more lines are read at a time than permitted.
    """
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "ANSWER_BYTES_MAX", most)
        patch.setattr(paging, "READ_LINES_MAX", 100)

        async def read(ids: Sequence[UUID]) -> dict[UUID, int]:
            assert sum(sizes[id.int] for id in ids) <= 100 or len(ids) == 1
            return {id: sizes[id.int] for id in ids}

        token = "first"
        while token:
            there = [Listed((n, UUID(int=n)), sizes[n]) for n in range(len(seen), len(sizes))][
                : size + 1
            ]
            messages, token = await page_request(ListShipmentsRequest(page_size=size), text).fill(
                there, read
            )
            kept = [len(message.value) for message in messages]
            weights = [message.ByteSize() + paging.FRAME_BYTES for message in messages]
            assert len(kept) <= size
            assert sum(weights) <= most or len(kept) == 1
            rest = sizes[len(seen) + len(kept) :]
            assert (
                not rest
                or len(kept) == size
                or sum(weights) + text(rest[0]).ByteSize() + paging.FRAME_BYTES > most
            )
            seen += kept
    assert seen == sizes


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(0, 900))
def test_page_cut_stops_where_the_answer_is_full(sizes: list[int], most: int) -> None:
    """Rows in memory are cut by the same bound as those read portion by portion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "ANSWER_BYTES_MAX", most)
        messages, token = page_request(ListShipmentsRequest(page_size=1000), text).cut(
            sizes, lambda row: (row,)
        )
    weights = [message.ByteSize() + paging.FRAME_BYTES for message in messages]
    assert sum(weights) <= most or len(weights) <= 1
    assert [len(message.value) for message in messages] == sizes[: len(messages)]
    assert bool(token) == (len(messages) < len(sizes))


def test_widest_order_fits_into_an_answer() -> None:
    """500 lines with the longest SKU, shares of three kinds, and units in 8 warehouses of long
    names are far below 4 MiB.
    """
    money = Money(currency_code="GBP", units=10**12, nanos=990_000_000)
    share = order_pb2.UnitShare(
        quantity=1_000_000, amount=money, discount_amount=money, tax_amount=money
    )
    name = "\N{SNOWMAN}" * 64
    somewhere = order_pb2.Allocation(warehouse_id=name, reservation_id=str(ROW), quantity=1_000_000)
    line = order_pb2.OrderItem(
        line_number=500,
        sku=name,
        quantity=1_000_000,
        unit_price=money,
        discount_amount=money,
        tax_amount=money,
        total_amount=money,
        unit_shares=[share] * 3,
        allocations=[somewhere] * 8,
    )
    late = order_pb2.LateEvent(reason="R" * 64, actor="A" * 64, cause_id="C" * 64)
    part = order_pb2.OrderFulfillment(
        warehouse_id=name, fulfillment_id=str(ROW), shipment_id=str(ROW), tracking_number="T" * 64
    )
    order = order_pb2.Order(items=[line] * 500, late_events=[late] * 100, fulfillments=[part] * 8)
    assert order.ByteSize() < paging.ANSWER_BYTES_MAX // 2


def test_answer_leaves_room_for_token_and_frames() -> None:
    """The records of the fullest page are below the transport's limit by more than a token and a
    thousand frames.
    """
    rest = characters_max(int, datetime, str, UUID) + 1_000
    assert paging.ANSWER_BYTES_MAX + rest < MESSAGE_BYTES_MAX


def test_request_without_a_token_starts_at_the_first_row() -> None:
    """Without a token there is no position, and a page size of zero is the default."""
    page = page_request(ListShipmentsRequest(), record)
    assert (page.size, page.after) == (SIZE_DEFAULT, None)
    assert page_request(ListShipmentsRequest(page_size=1000), record).size == 1000


def test_position_of_several_values_survives_the_token() -> None:
    """The values of a position keep their types: ids, numbers, times, and text of any script."""
    place = (datetime(2026, 3, 2, 12, 30, 0, 123456, tzinfo=UTC), ROW, "Käse — 日本", 5)
    request = ListOrdersRequest(page_token=token(ListOrdersRequest(), *place))
    assert page_request(request, record, datetime, UUID, str, int).after == place


def test_token_is_valid_with_another_page_size() -> None:
    """A token is valid with another page_size, which is no filter."""
    page_token = token(ListShipmentsRequest(tracking_number="A"), ROW)
    page = page_request(
        ListShipmentsRequest(tracking_number="A", page_token=page_token, page_size=9), record
    )
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
def test_token_of_another_filter_is_refused(other: Any) -> None:
    """A token of one filter or list is refused with any other: it would mix the pages of two
    lists.
    """
    other.page_token = token(ListShipmentsRequest(tracking_number="A"), ROW)
    with pytest.raises(Invalid) as refused:
        page_request(other, record)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert [violation.subject for violation in refused.value.violations] == ["page_token"]
    assert "filter" in refused.value.message


@pytest.mark.parametrize(
    ("page_token", "kinds"),
    [
        ("!", ()),
        ("é", ()),
        ("AAAA", ()),
        ("WyIiLCAiMjAyNi0xMS0yMiIsICJhIiwgImIiXQ==", ()),  # as older tokens were
        (pack(0), ()),
        (pack(0, ROW), ()),  # of another filter
        (token(ListShipmentsRequest(), ROW) + "AAAA", ()),
        (token(ListShipmentsRequest(), ROW, ROW), ()),
        (token(ListShipmentsRequest(), "tea"), ()),
        (token(ListShipmentsRequest(), "tea"), (int,)),
        (token(ListShipmentsRequest(), 2**63 - 1), (datetime,)),
        (token(ListShipmentsRequest(), "a\0b"), (str,)),
        (token(ListShipmentsRequest(), -1), (int,)),
        (token(ListShipmentsRequest(), 2**63 - 1), (int,)),
        ("x" * 2_000, ()),
        ("x" * 2_000, (str,)),
    ],
)
def test_page_token_that_no_list_issued_is_refused(page_token: str, kinds: Any) -> None:
    """Any invalid page_token is an invalid argument, and no query gets a value of another column's
    type.
    """
    with pytest.raises(Invalid) as refused:
        page_request(ListShipmentsRequest(page_token=page_token), record, *kinds)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


@given(st.text(max_size=60))
def test_any_text_as_page_token_is_refused(text: str) -> None:
    """Any text is refused, or (empty) is the first page."""
    if not text:
        return
    with pytest.raises(Invalid):
        page_request(ListShipmentsRequest(page_token=text), record)


def test_reading_a_page_leaves_the_request_unchanged() -> None:
    """The page is read without a change of the request."""
    request = ListShipmentsRequest(page_size=3, tracking_number="A")
    page_request(request, record)
    assert request == ListShipmentsRequest(page_size=3, tracking_number="A")
