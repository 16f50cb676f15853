"""The size limits of a request: derived from its contract, and checked on the wire before
parsing.
"""

import random
from collections.abc import Iterator
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError, Message
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2 import PackFulfillmentRequest
from ordermesh.order.v1.order_pb2 import ORDER_STATUS_PENDING, Recipient
from ordermesh.order.v1.order_service_pb2 import (
    BatchGetOrdersRequest,
    CancelledLine,
    CancelOrderItemsRequest,
    CreateOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    NewOrderItem,
)
from ordermesh.payment.v1.payment_service_pb2 import IngestProviderWebhookRequest

from chassis.values.errors import Violation
from chassis.values.message_limits import (
    REQUEST_BYTES_MAX,
    UNKNOWN_BYTES_MAX,
    OverLimit,
    limits_of,
    measured,
)
from tests.rpc import hostile
from tests.rpc.sample import contract

AMOUNT = Money(currency_code="GBP", units=10**12, nanos=999_999_999)
LINE = NewOrderItem(
    sku="\N{SNOWMAN}" * 64,
    quantity=1_000_000,
    unit_price=AMOUNT,
    discount_amount=AMOUNT,
    tax_amount=AMOUNT,
)
UUID_TEXT = str(UUID(int=7))


def elements(request: Message) -> int:
    """Returns how many elements the encoded request has."""
    return measured(limits_of(request.DESCRIPTOR), request.SerializeToString())


def refusal(of: type[Message], data: bytes) -> Violation:
    """Returns the message of the refusal of the bytes."""
    with pytest.raises(OverLimit) as over:
        measured(limits_of(of.DESCRIPTOR), data)
    return over.value.violation


def test_largest_legal_request_is_within_limits() -> None:
    """A checkout of 500 lines with the longest texts and highest amounts keeps its limits."""
    recipient = Recipient(
        name="\N{SNOWMAN}" * 200,
        address_lines=["\N{SNOWMAN}" * 200] * 4,
        locality="\N{SNOWMAN}" * 100,
        country_code="GB",
    )
    whole = CreateOrderRequest(request_id=UUID_TEXT, items=[LINE] * 500, recipient=recipient)
    assert elements(whole) == 504
    assert whole.ByteSize() < limits_of(whole.DESCRIPTOR).bytes_max < 256 << 10


def test_limits_are_derived_from_the_contract() -> None:
    """A UUID has 36 characters; a newer contract's fields have room; nothing is larger than 1
    MiB.
    """
    one = limits_of(GetOrderRequest.DESCRIPTOR)
    assert (
        one.bytes_max
        == len(GetOrderRequest(order_id=UUID_TEXT).SerializeToString()) + 11 + UNKNOWN_BYTES_MAX
    )
    assert limits_of(contract()[0].GetThingRequest.DESCRIPTOR).bytes_max == REQUEST_BYTES_MAX


@pytest.mark.parametrize(
    ("request_", "field", "rule"),
    [
        (CreateOrderRequest(items=[NewOrderItem()] * 501), "items", "500"),
        (CancelOrderItemsRequest(lines=[CancelledLine()] * 501), "lines", "500"),
        (BatchGetOrdersRequest(order_ids=[""] * 1_001), "order_ids", "1000"),
        (ListOrdersRequest(statuses=[ORDER_STATUS_PENDING] * 9), "statuses", "8"),
        (
            CreateOrderRequest(recipient=Recipient(address_lines=["x"] * 5)),
            "recipient.address_lines",
            "4",
        ),
        (IngestProviderWebhookRequest(headers={str(n): "" for n in range(65)}), "headers", "64"),
        (CreateOrderRequest(items=[LINE], customer_id="x" * 250_000), "customer_id", "256"),
        (IngestProviderWebhookRequest(headers={"a": "x" * 400_000}), "headers", "4230"),
        (IngestProviderWebhookRequest(body=b"\0" * 400_000), "body", "65536"),
        (
            CreateOrderRequest(items=[LINE, NewOrderItem(sku="x" * 250_000)]),
            "items[1].sku",
            "256",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_field_beyond_its_limit_is_named(request_: Message, field: str, rule: str) -> None:
    """The refusal names the field by its path, and its bound."""
    violation = refusal(type(request_), request_.SerializeToString())
    assert violation.subject == field
    assert rule in violation.description.split()


def test_inner_items_are_counted_over_all_packages() -> None:
    """All packages together have 2,000 items at most: 100 packages of 20 pass, 20 packages and one
    of 21 do not.
    """
    package = fulfillment_pb2.Package(
        items=[fulfillment_pb2.PackedItem(line_number=1, quantity=1)] * 20
    )
    full = PackFulfillmentRequest(packages=[package] * 100)
    assert elements(full) == 2_100
    full.packages[99].items.add()
    violation = refusal(PackFulfillmentRequest, full.SerializeToString())
    assert (violation.subject, violation.kind) == ("packages", "repeated.max_inner_items")
    assert "2000" in violation.description


def test_numbers_count_packed_or_not() -> None:
    """A packed list of numbers counts as many values as an unpacked one."""
    field = ListOrdersRequest.DESCRIPTOR.fields_by_name["statuses"]
    tag = hostile.varint(field.number << 3)
    assert measured(limits_of(ListOrdersRequest.DESCRIPTOR), (tag + b"\x01") * 8) == 8
    assert refusal(ListOrdersRequest, (tag + b"\x01") * 9).subject == "statuses"
    assert refusal(ListOrdersRequest, hostile.element(field, b"\x80\x01" * 9)).subject == "statuses"
    assert (
        measured(limits_of(ListOrdersRequest.DESCRIPTOR), hostile.element(field, b"\x80\x01" * 8))
        == 8
    )


def test_unknown_and_repeated_fields_count_for_the_request() -> None:
    """The request's size and number of fields bound unknown and repeated fields."""
    unknown = hostile.varint(1_000 << 3 | hostile.CHUNK)
    large = unknown + hostile.varint(300_000) + bytes(300_000)
    assert refusal(CreateOrderRequest, large).kind == "request.max_bytes"
    assert refusal(CreateOrderRequest, (unknown + b"\0") * 60_000).kind == "request.max_fields"
    small = CreateOrderRequest(customer_id="a").SerializeToString() + (unknown + b"\0") * 100
    assert measured(limits_of(CreateOrderRequest.DESCRIPTOR), small) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",
        b"\x0a\x05abc",  # a text that ends beyond the request
        b"\x22\x02\x0a\x05abcde",  # and beyond its message
        b"\x0b\x0c",  # a group
        b"\x0f",  # no wire type
        b"\x08" + b"\xff" * 11,  # a number of more than 64 bits
        b"\x09\x01",  # half a fixed number
    ],
)
def test_bytes_that_are_no_message_raise_decode_error(data: bytes) -> None:
    """Bytes that end within a field, or begin none, raise DecodeError."""
    with pytest.raises(DecodeError):
        measured(limits_of(CreateOrderRequest.DESCRIPTOR), data)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_scan(data: bytes) -> None:
    """Any bytes are measured, over their limit, or no message."""
    for of in (
        CreateOrderRequest,
        IngestProviderWebhookRequest,
        PackFulfillmentRequest,
        ListOrdersRequest,
    ):
        try:
            found = measured(limits_of(of.DESCRIPTOR), data)
        except (OverLimit, DecodeError):
            continue
        assert found <= len(data)


def _orders(chance: random.Random) -> Iterator[CreateOrderRequest]:
    for _ in range(200):
        items = [
            NewOrderItem(sku="x" * chance.randint(0, 99), quantity=chance.randint(-5, 5))
            for _ in range(chance.randint(0, 9))
        ]
        lines = ["y" * chance.randint(0, 99) for _ in range(chance.randint(0, 4))]
        yield CreateOrderRequest(
            items=items, recipient=Recipient(address_lines=lines), tax_amount=AMOUNT
        )


def test_count_on_the_wire_equals_the_parsed_message() -> None:
    """The count on the wire is the count of the parsed message."""
    for order in _orders(random.Random(7)):
        assert elements(order) == len(order.items) + len(order.recipient.address_lines)
