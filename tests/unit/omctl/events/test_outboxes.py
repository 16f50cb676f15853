"""`omctl events` on outboxes and stored versions: the requests and the output."""

import json

from ordermesh.ops.v1 import ops_service_pb2 as api

from chassis.values.convert import timestamp
from tests.unit.omctl.events.server import AT, NINE, REQUEST_ID, Omctl, event


def test_adopt_continues_after_the_last_position(omctl: Omctl) -> None:
    """Each call starts after the last one, with its own request_id; the counts are added up."""
    result = omctl("adopt", "--service", "order")
    assert result.exit_code == 0
    assert [request.after_stream_seq for request in omctl.requests] == [0, 100, 200]
    assert len({request.request_id for request in omctl.requests}) == 3
    assert result.stdout == "order: 8 events stored.\n"
    assert result.stderr == "order: 1 events were not stored: the service's log names them.\n"
    lines = omctl("adopt", "--service", "order", "--json").stdout.splitlines()
    expected = {"service": "order", "adopted": 8, "unreadable": 1}
    assert [json.loads(line) for line in lines] == [expected]


def test_stored_version_is_set(omctl: Omctl) -> None:
    """The named service gets the request about the order or one of its fulfilments. The answer is
    one line, or JSON.
    """
    order, work = event(1).event_id, event(2).event_id
    result = omctl(
        "set-version", "order", order, "7", "--fulfillment", work, "--request-id", REQUEST_ID
    )
    assert (result.exit_code, result.stderr) == (0, f"request_id {REQUEST_ID}\n")
    assert result.stdout == f"order has version 7 of {work}.\n"
    [request] = omctl.requests
    assert request == api.SetStoredVersionRequest(
        request_id=REQUEST_ID, order_id=order, fulfillment_id=work, version=7
    )
    assert json.loads(omctl("set-version", "payment", order, "3", "--json").stdout) == {
        "storedVersion": "3"
    }
    assert not omctl.requests[-1].HasField("fulfillment_id")
    assert omctl("set-version", "payment", order, "0").exit_code == 2


def test_events_are_published_again(omctl: Omctl) -> None:
    """Each service gets the options under one request_id, which is printed. The answer has a line
    for each service.
    """
    which = (
        "--aggregate",
        event(1).event_id,
        "--since",
        "2026-01-31T09:00:00+00:00",
        "--before",
        "2026-02-01T09:00:00+00:00",
    )
    result = omctl("republish", *which, "--dry-run", "--request-id", REQUEST_ID)
    assert result.stdout.splitlines() == [
        "SERVICE      EVENTS",
        "order             5",
        "warehouse         5",
        "fulfillment       5",
        "shipping          5",
        "payment           5",
    ]
    assert result.stderr == f"request_id {REQUEST_ID}\n"
    assert len(omctl.requests) == 5
    request = omctl.requests[0]
    assert all(each == request for each in omctl.requests)
    assert (request.request_id, request.aggregate_id, request.dry_run) == (
        REQUEST_ID,
        event(1).event_id,
        True,
    )
    assert request.create_time_from.ToJsonString() == "2026-01-31T09:00:00Z"
    assert request.create_time_before.ToJsonString() == "2026-02-01T09:00:00Z"
    result = omctl("republish", "--aggregate", event(1).event_id, "--service", "order", "--json")
    assert json.loads(result.stdout) == {"service": "order", "eventCount": "5"}
    assert omctl.order.requests[-1].dry_run is False


def test_outbox_of_each_service_is_a_line(omctl: Omctl) -> None:
    """Each service has a line: waiting events, the oldest one's time, stored events, and its
    stream's position.
    """
    assert omctl("stats").stdout.splitlines()[:2] == [
        "SERVICE      STREAM  WAITING  OLDEST               KEPT  PUBLISHED UP TO",
        f"order        S             2  {AT}     9                7",
    ]
    lines = [json.loads(line) for line in omctl("stats", "--json").stdout.splitlines()]
    assert [line["service"] for line in lines] == [
        "order",
        "warehouse",
        "fulfillment",
        "shipping",
        "payment",
    ]
    assert lines[0]["waitingCount"] == "2"


def test_refused_events_are_listed_with_their_aggregates(omctl: Omctl) -> None:
    """Below the table of services is each event that a stream refuses, with the blocked aggregate,
    its size and the reason.
    """
    refused = api.RefusedEvent(
        aggregate_id="a",
        event_id="e",
        type="T",
        payload_bytes=9,
        refusal="too large",
        create_time=timestamp(NINE),
    )
    omctl.order.refused = [refused]
    lines = omctl("stats", "--service", "order").stdout.splitlines()
    assert lines[2:] == [
        "SERVICE  BLOCKED AGGREGATE  REFUSED EVENT  TYPE  BYTES  SINCE                WHY",
        f"order    a                  e              T         9  {AT}  too large",
    ]
