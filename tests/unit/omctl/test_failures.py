"""Failed and invalid commands of omctl: the message and the exit code."""

import pytest

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
from tests.unit.omctl.samples import CREATE
from tests.unit.omctl.server import Fake, Omctl


def test_request_id_is_printed_before_the_call(omctl: Omctl, fake: Fake) -> None:
    """A failed call also has printed the request_id for the next try, and has sent that one."""
    fake.failure = Refused("ORDER_NOT_PAYABLE")
    for command in (CREATE, ("stock", "receive", "london-1", "--item", "TEAPOT:1")):
        result = omctl(*command)
        assert result.exit_code == 1
        assert f"request_id {fake.requests[-1].request_id}\n" in result.stderr
        assert "request_id" not in result.stdout


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
                "INSUFFICIENT_STOCK: Too little; A: requested 3, sellable 1; B: requested 2,"
                " sellable 0. Next: see `omctl stock list`, or book what arrives with"
                " `omctl stock receive`."
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
    "command",
    [
        (),
        ("order",),
        ("order", "create"),
        ("order", "watch"),
        ("stock", "list"),
        ("events",),
        ("events", "failed"),
        ("events", "show"),
        ("events", "replay"),
        ("events", "discard"),
        ("events", "republish"),
        ("events", "set-version"),
        ("events", "stats"),
    ],
)
def test_help_lists_the_exit_codes(omctl: Omctl, command: tuple[str, ...]) -> None:
    """The help of every command lists the exit codes."""
    result = omctl(*command, "--help")
    assert result.exit_code == 0
    assert "0 done; 1 refused, or failed; 2 invalid command line" in " ".join(result.stdout.split())
