"""`omctl order ...`: its requests, its output in a pipe and as JSON, and its exit codes."""

import json
from typing import Any

import pytest
from ordermesh.order.v1 import order_pb2

from tests.unit.omctl.samples import CREATE, REQUEST_ID
from tests.unit.omctl.server import AT, ORDER_ID, Fake, Omctl, change, order


def test_order_create_sends_every_option(omctl: Omctl, fake: Fake) -> None:
    """Each option becomes its field. A SKU may have colons, and an absent option leaves its field
    unset.
    """
    more = (
        "--discount",
        "1",
        "--shipping",
        "3.5",
        "--locality",
        "London",
        "--customer-id",
        "17850",
        "--request-id",
        REQUEST_ID,
    )
    result = omctl(*CREATE, *more)
    assert result.exit_code == 0, result.output
    [request] = fake.requests
    assert [
        (item.sku, item.quantity, item.unit_price.units, item.unit_price.nanos)
        for item in request.items
    ] == [
        ("TEAPOT", 2, 18, 950_000_000),
        ("a:b", 1, 0, 0),
    ]
    assert {item.unit_price.currency_code for item in request.items} == {"GBP"}
    assert (request.discount_amount.units, request.shipping_amount.nanos) == (1, 500_000_000)
    assert not request.HasField("tax_amount")
    assert not request.HasField("external_reference")
    assert (request.recipient.name, request.recipient.country_code, request.recipient.locality) == (
        "Ada",
        "GB",
        "London",
    )
    assert list(request.recipient.address_lines) == ["12 St James's Square"]
    assert (request.request_id, request.customer_id) == (REQUEST_ID, "17850")


def test_order_is_shown(omctl: Omctl) -> None:
    """The output has the facts, then the lines as aligned text. Characters that would break or
    colour the lines are escaped.
    """
    result = omctl("order", "get", ORDER_ID)
    assert result.stdout.splitlines() == [
        f"order      OM-1 ({ORDER_ID})",
        "status     pending: BECAUSE; version 1, attempt 1",
        "also       payment unspecified, goods unspecified, stock unspecified, returns unspecified",
        "customer   17850, reference -",
        (
            "total      45.00 GBP = 42.00 GBP - 0.00 GBP discount + 0.00 GBP tax + 3.00 GBP"
            " shipping; 0.00 GBP refunded"
        ),
        f"placed     {AT}, changed {AT}",
        "",
        "LINE  SKU        UNITS      PRICE      TOTAL  STOCK",
        "   1  TEAPOT         2  19.00 GBP  38.00 GBP  -",
        "   2  [red]CUP\ufffd      1   4.00 GBP   4.00 GBP  -",
    ]


@pytest.mark.parametrize("which", [ORDER_ID, ORDER_ID.upper(), "OM-1", "om-1"])
def test_order_is_found_by_id_and_by_number(omctl: Omctl, which: str) -> None:
    """An order is found by its number and by its id, in upper and lower case."""
    result = omctl("order", "get", which, "--json")
    assert json.loads(result.stdout)["orderId"] == ORDER_ID


@pytest.mark.parametrize("which", ["01890000-0000-7000-8000-00000000ffff", "OM-2"])
@pytest.mark.parametrize("command", ["get", "timeline", "watch"])
def test_unknown_order_exits_with_code_3(omctl: Omctl, command: str, which: str) -> None:
    """Every command answers an unknown order with exit code 3."""
    result = omctl("order", command, which)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("omctl: ORDER_NOT_FOUND: ")
    assert result.stderr.endswith(" Next: see `omctl order list`.\n")


def test_json_is_one_document_with_all_its_fields(omctl: Omctl) -> None:
    """The document is ProtoJSON of the resource, with zero and empty fields."""
    for command in (("order", "get", ORDER_ID), CREATE):
        document = json.loads(omctl(*command, "--json").stdout)
        assert document["status"] == "ORDER_STATUS_PENDING"
        assert document["totalAmount"] == {"currencyCode": "GBP", "units": "45", "nanos": 0}
        assert document["fulfillments"] == []
        assert document["items"][0]["cancelledQuantity"] == 0
        assert document["createTime"] == "2026-01-31T09:00:00.123Z"


def test_list_reads_all_pages_up_to_its_limit(omctl: Omctl, fake: Fake) -> None:
    """A list ends at its limit or its end, not at a page's end. If it was cut, stderr reports
    that.
    """
    fake.orders = [order(number=number) for number in range(1, 6)]
    whole = omctl("order", "list", "--limit", "0")
    assert [line.split()[0] for line in whole.stdout.splitlines()] == [
        "ORDER",
        "OM-1",
        "OM-2",
        "OM-3",
        "OM-4",
        "OM-5",
    ]
    assert whole.stderr == ""
    cut = omctl("order", "list", "--limit", "3")
    assert [line.split()[0] for line in cut.stdout.splitlines()] == [
        "ORDER",
        "OM-1",
        "OM-2",
        "OM-3",
    ]
    assert "--limit 0" in cut.stderr
    lines = omctl("order", "list", "--limit", "3", "--json").stdout.splitlines()
    assert [json.loads(line)["orderNumber"] for line in lines] == ["OM-1", "OM-2", "OM-3"]


def test_filters_are_sent(omctl: Omctl, fake: Fake) -> None:
    """Each filter becomes its field; a time without a zone is local."""
    filters = (
        "--status",
        "pending",
        "--status",
        "Failed",
        "--stock-status",
        "commit_pending",
        "--customer-id",
        "1",
        "--external-reference",
        "2",
    )
    assert (
        omctl(
            "order",
            "list",
            *filters,
            "--since",
            "2026-01-31T09:00:00+01:00",
            "--before",
            "2026-02-01",
        ).exit_code
        == 0
    )
    [request] = fake.requests
    assert (list(request.statuses), request.stock_status) == ([1, 8], 3)
    assert (request.customer_id, request.external_reference) == ("1", "2")
    assert request.create_time_from.ToJsonString() == "2026-01-31T08:00:00Z"
    assert request.HasField("create_time_before")
    fake.requests.clear()
    omctl("order", "list")
    assert not fake.requests[0].HasField("customer_id")
    assert not fake.requests[0].HasField("stock_status")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("cancel", "OM-1", "--reason", "OUT_OF_SEASON"), "cancelled"),
        (
            ("cancel-items", "OM-1", "--reason", "OUT_OF_SEASON", "--item", "1:2", "--item", "2:1"),
            "confirmed",
        ),
        (("retry", "OM-1"), "pending"),
    ],
)
def test_order_commands_send_their_options_and_show_order(
    omctl: Omctl, fake: Fake, command: tuple[str, ...], shown: str
) -> None:
    """The command finds the order by its number, prints the request_id before the call, sends the
    options, and shows the order afterwards.
    """
    result = omctl("order", *command, "--note", "He called.", "--request-id", REQUEST_ID)
    assert result.exit_code == 0, result.output
    assert f"request_id {REQUEST_ID}\n" in result.stderr
    request = fake.requests[-1]
    assert (request.request_id, request.order_id, request.note) == (
        REQUEST_ID,
        ORDER_ID,
        "He called.",
    )
    assert f"status     {shown}" in result.stdout
    if "--reason" in command:
        assert request.reason == "OUT_OF_SEASON"
    if "--item" in command:
        assert [(line.line_number, line.quantity) for line in request.lines] == [(1, 2), (2, 1)]


def test_late_events_and_cancelled_money_are_shown(omctl: Omctl, fake: Fake) -> None:
    """The output also has the shares of cancelled units, and the events after the order's end."""
    fake.orders[0].cancelled_amount.CopyFrom(fake.orders[0].items[0].unit_price)
    fake.orders[0].late_events.add(
        reason="PAYMENT_CONFIRMED", actor="payment", occur_time=fake.orders[0].create_time
    )
    shown = omctl("order", "get", "OM-1").stdout
    assert " - 19.00 GBP cancelled;" in shown
    assert f"late       {AT} PAYMENT_CONFIRMED (by payment)" in shown


def test_timeline_has_every_transition(omctl: Omctl, fake: Fake) -> None:
    """The timeline has every transition of all pages, oldest first. A call's transition has its
    claimed actor and note.
    """
    fake.transitions = [
        change(version, status)
        for version, status in enumerate(("PENDING", "CONFIRMED", "PROCESSING"), 1)
    ]
    fake.transitions[2].MergeFrom(
        order_pb2.OrderTransition(actor="order", claimed_actor="staff:7", note="He called.")
    )
    assert omctl("order", "timeline", "OM-1").stdout.splitlines() == [
        f"{AT}  pending     WHY_1  (by payment, version 1)",
        f"{AT}  confirmed   WHY_2  (by payment, version 2)",
        f"{AT}  processing  WHY_3  (by order for staff:7, version 3)  He called.",
    ]
    assert [
        json.loads(line)["orderVersion"]
        for line in omctl("order", "timeline", "OM-1", "--json").stdout.splitlines()
    ] == [
        "1",
        "2",
        "3",
    ]


def versions(result: Any) -> list[int]:
    """Returns the versions of the shown transitions."""
    return [int(line.rpartition("version ")[2].rstrip(")")) for line in result.stdout.splitlines()]


def test_watch_shows_each_transition_once_until_the_end(omctl: Omctl, fake: Fake) -> None:
    """The watch shows past and then new transitions without gaps and repeats, up to an end of the
    order.
    """
    fake.orders = [order("CONFIRMED", 2)]
    fake.transitions = [change(1, "PENDING"), change(2, "CONFIRMED")]
    fake.new_transitions = [
        change(2, "CONFIRMED"),
        change(3, "PROCESSING"),
        change(4, "CANCELLED"),
        change(5, "PENDING"),
    ]
    result = omctl("order", "watch", ORDER_ID)
    assert (result.exit_code, versions(result)) == (0, [1, 2, 3, 4])


def test_watch_waits_for_a_status(omctl: Omctl, fake: Fake) -> None:
    """The watch ends with 0 at the requested status, and with 1 if the order ends elsewhere."""
    fake.new_transitions = [change(2, "CONFIRMED"), change(3, "CANCELLED")]
    assert versions(omctl("order", "watch", ORDER_ID, "--until", "confirmed")) == [1, 2]
    result = omctl("order", "watch", ORDER_ID, "--until", "delivered")
    assert result.exit_code == 1
    assert result.stderr == "omctl: The order is cancelled (WHY_3), and not delivered.\n"


def test_watch_continues_after_a_retried_failure(omctl: Omctl, fake: Fake) -> None:
    """A failed order that was retried has not ended at its failure. A watch until refunded does not
    end at the delivery.
    """
    fake.orders = [order("DELIVERED", 3)]
    fake.transitions = [change(1, "PENDING"), change(2, "FAILED"), change(3, "DELIVERED")]
    assert versions(omctl("order", "watch", ORDER_ID)) == [1, 2, 3]
    fake.new_transitions = [change(4, "REFUNDED")]
    assert versions(omctl("order", "watch", ORDER_ID, "--until", "refunded")) == [1, 2, 3, 4]


def test_watch_past_its_timeout_exits_with_code_4(omctl: Omctl) -> None:
    """If the order does not reach the status in time, the exit code is 4."""
    result = omctl("order", "watch", ORDER_ID, "--timeout", "0.5")
    assert (result.exit_code, versions(result)) == (4, [1])
    assert result.stderr == "omctl: Not within 0.5 s.\n"


@pytest.mark.parametrize(
    ("currency", "text", "units", "nanos"),
    [("JPY", "12", 12, 0), ("KWD", "1.005", 1, 5_000_000), ("GBP", "0.1", 0, 100_000_000)],
)
def test_amounts_have_their_currencys_digits(
    omctl: Omctl, fake: Fake, currency: str, text: str, units: int, nanos: int
) -> None:
    """Yen have no minor unit, dinars have three digits; no amount is rounded."""
    result = omctl("order", "create", "--item", f"A:1:{text}", "--currency", currency, *CREATE[8:])
    assert result.exit_code == 0, result.stderr
    price = fake.requests[0].items[0].unit_price
    assert (price.currency_code, price.units, price.nanos) == (currency, units, nanos)
