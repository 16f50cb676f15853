"""The requests of the commands, their output in a pipe and as JSON, and their exit codes."""

import json
from typing import Any

import pytest
from ordermesh.order.v1 import order_pb2

from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Invalid,
    NotFound,
    Overloaded,
    Refused,
    Violation,
)
from devstack.ports import free_ports
from tests.unit.omctl.server import AT, ORDER_ID, Fake, Omctl, change, order

REQUEST_ID = "6a0c9f5e-0000-4000-8000-000000000001"
CREATE = (
    "order",
    "create",
    "--item",
    "TEAPOT:2:18.95",
    "--item",
    "a:b:1:0",
    "--currency",
    "gbp",
    "--name",
    "Ada",
    "--country",
    "gb",
    "--address-line",
    "12 St James's Square",
)


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


def test_request_id_is_printed_before_the_call(omctl: Omctl, fake: Fake) -> None:
    """A failed call also has printed the request_id for the next try, and has sent that one."""
    fake.failure = Refused("ORDER_NOT_PAYABLE")
    for command in (CREATE, ("stock", "receive", "london-1", "--item", "TEAPOT:1")):
        result = omctl(*command)
        assert result.exit_code == 1
        assert f"request_id {fake.requests[-1].request_id}\n" in result.stderr
        assert "request_id" not in result.stdout


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
    fake.steps = [
        change(version, status)
        for version, status in enumerate(("PENDING", "CONFIRMED", "PROCESSING"), 1)
    ]
    fake.steps[2].MergeFrom(
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
    fake.steps = [change(1, "PENDING"), change(2, "CONFIRMED")]
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
    fake.steps = [change(1, "PENDING"), change(2, "FAILED"), change(3, "DELIVERED")]
    assert versions(omctl("order", "watch", ORDER_ID)) == [1, 2, 3]
    fake.new_transitions = [change(4, "REFUNDED")]
    assert versions(omctl("order", "watch", ORDER_ID, "--until", "refunded")) == [1, 2, 3, 4]


def test_watch_past_its_timeout_exits_with_code_4(omctl: Omctl) -> None:
    """If the order does not reach the status in time, the exit code is 4."""
    result = omctl("order", "watch", ORDER_ID, "--timeout", "0.5")
    assert (result.exit_code, versions(result)) == (4, [1])
    assert result.stderr == "omctl: Not within 0.5 s.\n"


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (
            Refused(
                "INSUFFICIENT_STOCK",
                "Too little.",
                violations=[
                    Violation("A", "requested 3, sellable 1"),
                    Violation("B", "requested 2, sellable 0"),
                ],
            ),
            1,
            (
                "INSUFFICIENT_STOCK: Too little; A: requested 3, sellable 1;"
                " B: requested 2, sellable 0. Next: see `omctl stock list`,"
                " or book what arrives with `omctl stock receive`."
            ),
        ),
        (
            Invalid(
                "VALIDATION_FAILED", violations=[Violation("items[0].sku", "must not be empty")]
            ),
            1,
            (
                "VALIDATION_FAILED; items[0].sku: must not be empty. Next: correct each field that"
                " is named and send the request again."
            ),
        ),
        (Refused("ORDER_NOT_PAYABLE", "It is paid."), 1, "ORDER_NOT_PAYABLE: It is paid."),
        (NotFound("ORDER_NOT_FOUND"), 3, "ORDER_NOT_FOUND. Next: see `omctl order list`."),
        (
            Overloaded("OVERLOADED", retry_after_s=2.5),
            4,
            "OVERLOADED. Next: try again in 2.5 s, with the same --request-id where there was one.",
        ),
        (
            Deferred("CONTENTION", "busy"),
            4,
            (
                "CONTENTION: ordermesh.order.v1.OrderService: busy. Next: try again, with the same"
                " --request-id where there was one."
            ),
        ),
        (
            Deferred("DEPENDENCY_UNAVAILABLE", "the database cannot be reached", peer="database"),
            4,
            (
                "DEPENDENCY_UNAVAILABLE: ordermesh.order.v1.OrderService: the database cannot be"
                " reached. Next: see whether the database that the service at 127.0.0.1:"
            ),
        ),
        (
            Deferred("DATABASE_NOT_READY", "the database is not migrated", peer="database"),
            4,
            (
                "DATABASE_NOT_READY: ordermesh.order.v1.OrderService: the database is not migrated."
                " Next: migrate the service"
            ),
        ),
        (
            Defect(ValueError("secret")),
            1,
            "INTERNAL. Next: the service has a bug: see its log.",
        ),
    ],
)
def test_failures_are_one_line_and_a_code(
    omctl: Omctl, fake: Fake, failure: Failure, code: int, message: str
) -> None:
    """stderr has the reason, the details and the next step; stdout is empty. The exit code states
    the kind of failure.
    """
    fake.failure = failure
    result = omctl("order", "list", "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"omctl: {message}")
    assert result.stderr.count("\n") == 1


def test_unreachable_service_exits_with_code_4(omctl: Omctl) -> None:
    """The exit code is 4, and the message has the address."""
    address = f"127.0.0.1:{next(iter(free_ports(1)))}"
    result = omctl("stock", "list", "--timeout", "0.5", environment={"WAREHOUSE_ADDRESS": address})
    assert result.exit_code == 4
    assert address in result.stderr
    assert "make run" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("order", "list", "--status", "nix"), "pending, confirmed"),
        (("order", "get"), "ORDER"),
        (("order", "create", "--request-id", "7", *CREATE[2:]), "'7' is no UUID"),
        ((*CREATE, "--item", "TEAPOT"), "SKU:QUANTITY:PRICE"),
        ((*CREATE, "--item", ":1:1"), "SKU:QUANTITY:PRICE"),
        ((*CREATE, "--item", "TEAPOT:two:1"), "'two' is no number of units"),
        ((*CREATE, "--item", "TEAPOT:1:1.005"), "12.55"),
        ((*CREATE, "--item", "TEAPOT:1:-1"), "'-1' is no amount in GBP"),
        ((*CREATE, "--tax", "1,5"), "'1,5' is no amount in GBP"),
        ((*CREATE, "--currency", "XXX"), "XXX"),
        (("stock", "receive", "london-1", "--item", "TEAPOT"), "SKU:QUANTITY"),
        (("nothing",), "No such command"),
    ],
)
def test_invalid_argument_is_a_usage_error(
    omctl: Omctl, fake: Fake, arguments: tuple[str, ...], message: str
) -> None:
    """The exit code is 2, the message names the fault and the valid form, and no request is
    sent.
    """
    result = omctl(*arguments)
    assert (result.exit_code, fake.requests) == (2, [])
    assert message in result.stderr


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


@pytest.mark.parametrize(
    "command", [(), ("order",), ("order", "create"), ("order", "watch"), ("stock", "list")]
)
def test_help_lists_the_exit_codes(omctl: Omctl, command: tuple[str, ...]) -> None:
    """The help of every command lists the exit codes."""
    result = omctl(*command, "--help")
    assert result.exit_code == 0
    assert "0 done; 1 refused, or failed; 2 invalid command line" in " ".join(result.stdout.split())
