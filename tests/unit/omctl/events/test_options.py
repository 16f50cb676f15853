"""The options of `omctl events ...`: the called services, the filters, and the exit codes."""

import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api

from chassis.values.errors import Defect, Deferred
from devstack.ports import free_ports
from tests.unit.omctl.events.server import REQUEST_ID, Omctl, event


def test_every_service_is_called_without_a_filter(omctl: Omctl) -> None:
    """All five services are called, unless services are named, or a consumer, which determines its
    service.
    """
    for command in (
        ("failed",),
        ("stats",),
        ("replay", "--all", "--dry-run"),
        ("republish", "--since", "2026-01-31"),
    ):
        omctl.order.requests.clear()
        omctl.others.requests.clear()
        assert omctl(*command).exit_code == 0
        assert (len(omctl.order.requests), len(omctl.others.requests)) == (1, 4)
    omctl.order.requests.clear()
    omctl.others.requests.clear()
    omctl("failed", "--consumer", "order-payments")
    assert (len(omctl.order.requests), len(omctl.others.requests)) == (1, 0)


@pytest.mark.parametrize("command", [("failed",), ("replay", "--all")])
def test_filters_are_sent(omctl: Omctl, command: tuple[str, ...]) -> None:
    """Each filter becomes its field, in a list and in a replay; an absent one is unset."""
    filters = (
        "--state",
        "deferred",
        "--state",
        "Discarded",
        "--consumer",
        "order-payments",
        "--subject",
        "a.b",
        "--reason",
        "R",
    )
    times = ("--since", "2026-01-31T09:00:00+01:00", "--before", "2026-02-01T00:00:00+00:00")
    assert omctl(*command, *filters, "--aggregate", "7", *times).exit_code == 0
    [request] = omctl.requests
    assert list(request.filter.states) == [1, 4]
    assert (request.filter.consumer, request.filter.subject, request.filter.reason) == (
        "order-payments",
        "a.b",
        "R",
    )
    assert request.filter.aggregate_id == "7"
    assert request.filter.first_fail_time_from.ToJsonString() == "2026-01-31T08:00:00Z"
    assert request.filter.first_fail_time_before.ToJsonString() == "2026-02-01T00:00:00Z"
    omctl.order.requests.clear()
    omctl(*command, "--service", "order")
    assert omctl.requests[0].filter == api.FailedEventFilter()


NOTED = [
    ("discard", "order-payments", event(1).event_id),
    ("replay", "order-payments", event(1).event_id),
    ("discard", "--all", "--service", "order"),
    ("replay", "--all", "--service", "order"),
    ("set-version", "order", event(1).event_id, "7"),
    ("republish", "--service", "order", "--aggregate", event(1).event_id),
]


@pytest.mark.parametrize("command", NOTED, ids=" ".join)
def test_change_sends_note_and_actor(omctl: Omctl, command: tuple[str, ...]) -> None:
    """Each command that changes something sends --note, and ORDERMESH_ACTOR as the claimed actor.
    Without them it sends neither.
    """
    omctl.order.events = [event(1)]
    assert omctl(*command, "--note", "forged", ORDERMESH_ACTOR="staff:7f3a").exit_code == 0
    assert (omctl.requests[-1].note, omctl.order.actors[-1]) == ("forged", "staff:7f3a")
    assert omctl(*command).exit_code == 0
    assert (omctl.requests[-1].HasField("note"), omctl.order.actors[-1]) == (False, None)


def test_malformed_actor_is_usage_error(omctl: Omctl) -> None:
    """A setting that breaks the pattern of actors is refused before any request."""
    result = omctl("stats", ORDERMESH_ACTOR="anna")
    assert result.exit_code == 2
    assert "ORDERMESH_ACTOR" in result.stderr
    assert omctl.requests == []


@pytest.mark.parametrize(
    "command",
    [
        ("failed",),
        ("stats",),
        ("replay", "--all", "--dry-run"),
        ("republish", "--since", "2026-01-31"),
    ],
)
def test_unreachable_service_is_named_beside_the_others(
    omctl: Omctl, command: tuple[str, ...]
) -> None:
    """The answers of the others are shown. A line on stderr names the unreachable service and its
    address; the exit code is 4.
    """
    omctl.order.events = [event(1)]
    address = f"127.0.0.1:{free_ports(1)[0]}"
    two = ("--service", "order", "--service", "payment", "--timeout", "0.5")
    result = omctl(*command, *two, PAYMENT_ADDRESS=address)
    assert result.exit_code == 4
    assert len(result.stdout.splitlines()) == 2
    [line] = [line for line in result.stderr.splitlines() if line.startswith("omctl: ")]
    assert line.startswith("omctl: payment: ")
    assert address in line


def test_refusal_beside_an_outage_exits_with_code_1(omctl: Omctl) -> None:
    """A retry helps only without a refusal: with one the exit code is 1."""
    omctl.order.failure, omctl.others.failure = Defect(ValueError()), Deferred("OVERLOADED")
    result = omctl("stats", "--timeout", "2")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("failed", "--state", "nix"), "deferred, failed, replayed, discarded"),
        (("failed", "--service", "nix"), "order, warehouse"),
        (("failed", "--consumer", "nix-payments"), "order-payments"),
        (("show", "payments", "7"), "order-payments"),
        (("show", "order-payments", "7"), "'7' is no UUID"),
        (("replay",), "--all"),
        (("replay", "order-payments"), "--all"),
        (("replay", "order-payments", REQUEST_ID, "--all"), "--all"),
        (("replay", "order-payments", REQUEST_ID, "--reason", "R"), "Filters go with --all"),
        (("replay", "--reason", "R"), "--all"),
        (("republish",), "--aggregate or --since"),
        (("republish", "--before", "2026-01-31"), "--aggregate or --since"),
    ],
)
def test_invalid_argument_is_a_usage_error(
    omctl: Omctl, arguments: tuple[str, ...], message: str
) -> None:
    """The exit code is 2, the message names the valid form, and no request is sent."""
    result = omctl(*arguments)
    assert (result.exit_code, omctl.requests) == (2, [])
    assert message in " ".join(result.stderr.replace("│", " ").split())
