"""`omctl events failed`, `show`, `replay` and `discard`: the requests, the output and the exit
codes."""

import json
from datetime import timedelta

import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api

from tests.unit.omctl.events.server import AT, NINE, REQUEST_ID, Omctl, event, numbers


def test_failed_events_of_all_services_are_one_list(omctl: Omctl) -> None:
    """The list has the events of all services and pages, the oldest failure first."""
    omctl.order.events = [event(1, minutes=1), event(3, minutes=3), event(4, minutes=4)]
    omctl.others.events = [event(2, "payment-orders", minutes=2)]
    result = omctl("failed", "--service", "order", "--service", "Payment", "--limit", "0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:2] == [
        (
            "CONSUMER        EVENT                                 STATE   SUBJECT                 "
            "    ABOUT  REASON           TRIES  FAILED FIRST"
        ),
        (
            "order-payments  01890000-0000-7000-8000-000000000001  failed "
            " payments.payment.confirmed  7      ORDER_NOT_FOUND      4 "
            f" {(NINE + timedelta(minutes=1)).astimezone():%Y-%m-%d %H:%M:%S}"
        ),
    ]
    assert numbers(result) == [1, 2, 3, 4]
    cut = omctl("failed", "--service", "order", "--service", "payment", "--limit", "2")
    assert numbers(cut) == [1, 2]
    assert "--limit 0" in cut.stderr
    lines = omctl(
        "failed", "--service", "order", "--service", "payment", "--json"
    ).stdout.splitlines()
    assert [json.loads(line)["eventId"][-1] for line in lines] == ["1", "2", "3", "4"]


def test_event_is_shown(omctl: Omctl) -> None:
    """The output has the error and the body of the event, from the service of its consumer."""
    omctl.order.events = [event(1)]
    result = omctl("show", "order-payments", event(1).event_id)
    assert result.stdout.splitlines() == [
        "event      01890000-0000-7000-8000-000000000001 at order-payments",
        "state      failed: ORDER_NOT_FOUND; tried 4 times",
        "error      No order \ufffd7.",
        (
            "says       ordermesh.payment.events.v1.PaymentConfirmed on payments.payment.confirmed,"
            " about 7"
        ),
        f"published  {AT}.000, failed first {AT}.000, changed {AT}.000",
        "digest     -",
        "payload    3 bytes",
        "{",
        '  "orderId": "7"',
        "}",
    ]
    shown = json.loads(omctl("show", "order-payments", event(1).event_id, "--json").stdout)
    assert (shown["payload"], shown["state"]) == ("MTIz", "FAILED_EVENT_STATE_FAILED")


def test_single_replay_shows_the_event_afterwards(omctl: Omctl) -> None:
    """The command shows the event after the replay. If it failed again, the exit code is 1 with the
    reason. A dry run only reads it. The request_id is printed, and a given one is sent.
    """
    omctl.order.events = [event(1), event(2)]
    omctl.order.stubborn = {event(2).event_id}
    dry = omctl("replay", "order-payments", event(1).event_id, "--dry-run")
    assert (dry.exit_code, "failed" in dry.stdout, dry.stderr) == (0, True, "")
    assert [type(request) for request in omctl.requests] == [api.GetFailedEventRequest]
    done = omctl("replay", "order-payments", event(1).event_id)
    assert (done.exit_code, "replayed" in done.stdout, done.stderr) == (
        0,
        True,
        f"request_id {omctl.requests[-1].request_id}\n",
    )
    again = omctl("replay", "order-payments", event(2).event_id, "--request-id", REQUEST_ID)
    assert (again.exit_code, again.stderr) == (
        1,
        f"request_id {REQUEST_ID}\nomctl: The event failed again: No order \ufffd7.\n",
    )
    assert omctl.requests[-1].request_id == REQUEST_ID


def test_batch_replay_calls_all_services_with_the_filter(omctl: Omctl) -> None:
    """Matching events of all services are replayed, the oldest first. The exit code is 1 if some
    failed again, and a dry run is one for the services too. All requests have one request_id, which
    is printed.
    """
    omctl.order.events = [event(1, minutes=1), event(3, minutes=3)]
    omctl.others.events = [event(2, "payment-orders", minutes=2)]
    which = ("replay", "--all", "--service", "order", "--service", "payment")
    dry = omctl(*which, "--dry-run", "--limit", "7", "--request-id", REQUEST_ID)
    assert (dry.exit_code, dry.stderr) == (0, f"request_id {REQUEST_ID}\n3 would be tried.\n")
    assert numbers(dry) == [1, 2, 3]
    assert {(request.dry_run, request.limit, request.request_id) for request in omctl.requests} == {
        (True, 7, REQUEST_ID)
    }
    omctl.order.stubborn, omctl.order.more = {event(3).event_id}, True
    result = omctl(*which)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == [
        f"request_id {omctl.requests[-1].request_id}",
        "2 of 3 replayed.",
    ]
    assert "More events match" in result.stderr
    assert numbers(result) == [3]  # the events that failed again
    [line] = omctl(*which, "--json").stdout.splitlines()
    assert json.loads(line)["eventId"] == event(3).event_id


def test_batch_discard_calls_each_service_once(omctl: Omctl) -> None:
    """One call to each service takes the filter. A dry run shows the matching events, and without a
    filter no request is sent.
    """
    omctl.order.events = [event(1, minutes=1), event(3, minutes=3)]
    omctl.others.events = [event(2, "payment-orders", minutes=2)]
    which = ("discard", "--all", "--type", "a.b.C", "--service", "order", "--service", "payment")
    dry = omctl(*which, "--dry-run", "--request-id", REQUEST_ID)
    assert (dry.exit_code, dry.stderr) == (0, f"request_id {REQUEST_ID}\n3 would be discarded.\n")
    assert numbers(dry) == [1, 2, 3]
    omctl.order.more = True
    done = omctl(*which, "--limit", "9")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines()[1:] == [
        "3 discarded.",
        "More events match: repeat the command, or raise --limit.",
    ]
    sent = [request for request in omctl.requests if not request.dry_run]
    assert [(request.filter.type, request.limit) for request in sent] == [("a.b.C", 9)] * 2
    lines = [json.loads(line) for line in omctl(*which, "--json").stdout.splitlines()]
    assert {line["service"]: line["discardedCount"] for line in lines} == {"order": 2, "payment": 1}
    before = len(omctl.requests)
    assert omctl("discard", "--all").exit_code == 2
    assert len(omctl.requests) == before


def test_digest_option_selects_one_of_two_bodies(omctl: Omctl) -> None:
    """If two bodies have one event id, each command takes the digest."""
    omctl.order.events = [event(1)]
    for command in ("show", "replay", "discard"):
        omctl(command, "order-payments", event(1).event_id, "--digest", "ab" * 32)
        assert omctl.requests[-1].digest == "ab" * 32


def test_single_discard_shows_the_event_afterwards(omctl: Omctl) -> None:
    """The command shows the event afterwards, and sends the given request_id. A dry run only reads
    the event.
    """
    omctl.order.events = [event(1)]
    assert " failed " in omctl("discard", "order-payments", event(1).event_id, "--dry-run").stdout
    discarded = omctl("discard", "order-payments", event(1).event_id, "--request-id", REQUEST_ID)
    assert (" discarded " in discarded.stdout, discarded.stderr) == (
        True,
        f"request_id {REQUEST_ID}\n",
    )
    assert [type(request) for request in omctl.requests] == [
        api.GetFailedEventRequest,
        api.DiscardFailedEventRequest,
    ]
    assert omctl.requests[-1].request_id == REQUEST_ID
    assert (
        json.loads(omctl("discard", "order-payments", event(1).event_id, "--json").stdout)["state"]
        == "FAILED_EVENT_STATE_DISCARDED"
    )


@pytest.mark.parametrize("command", ["show", "replay", "discard"])
def test_unknown_event_exits_with_code_3(omctl: Omctl, command: str) -> None:
    """The exit code is 3, and the message names the command to look it up."""
    result = omctl(command, "order-payments", event(1).event_id)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "omctl: FAILED_EVENT_NOT_FOUND: " in result.stderr
    assert "omctl events failed" in result.stderr
