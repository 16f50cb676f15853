"""`omctl events ...`: the requests to each service, the output and the exit codes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import (
    FailedEventServiceServicer,
    OutboxServiceServicer,
    add_FailedEventServiceServicer_to_server,
    add_OutboxServiceServicer_to_server,
)
from typer.testing import CliRunner, Result

from chassis.rpc.status import encode
from chassis.values.convert import timestamp
from chassis.values.errors import Defect, Deferred, Failure, NotFound
from devstack.ports import free_ports
from omctl.__main__ import app

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
AT = NINE.astimezone().strftime("%Y-%m-%d %H:%M:%S")
REQUEST_ID = "6a0c9f5e-0000-4000-8000-000000000001"
STATES = api.FailedEventState


def event(
    number: int, consumer: str = "order-payments", minutes: int = 0, state: str = "FAILED"
) -> api.FailedEvent:
    """Returns a failed event, so many minutes after nine."""
    return api.FailedEvent(
        consumer=consumer,
        event_id=f"01890000-0000-7000-8000-00000000000{number}",
        state=STATES.Value(f"FAILED_EVENT_STATE_{state}"),
        subject="payments.payment.confirmed",
        type="ordermesh.payment.events.v1.PaymentConfirmed",
        aggregate_id="7",
        reason="ORDER_NOT_FOUND",
        error="No order \n7.",
        attempts=4,
        event_time=timestamp(NINE),
        first_fail_time=timestamp(NINE + timedelta(minutes=minutes)),
        update_time=timestamp(NINE + timedelta(minutes=minutes)),
    )


class Fake(FailedEventServiceServicer, OutboxServiceServicer):
    """A service that records its requests. It has `events`, in pages of two, or raises its
    `failure`.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.actors: list[Any] = []
        self.failure: Failure | None = None
        self.refused: list[api.RefusedEvent] = []
        self.events: list[api.FailedEvent] = []
        self.stubborn: set[str] = set()
        self.more = False

    def _take(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.actors.append(dict(context.invocation_metadata()).get("ordermesh-actor"))
        if self.failure:
            code, message, trailing = encode(self.failure)
            context.set_trailing_metadata(trailing)
            context.abort(code, message)

    def _find(self, request: Any, context: Any) -> api.FailedEvent:
        self._take(request, context)
        found = [
            each
            for each in self.events
            if (each.consumer, each.event_id) == (request.consumer, request.event_id)
        ]
        if not found:
            self.failure = NotFound("FAILED_EVENT_NOT_FOUND", "There is no such event.")
            self._take(request, context)
        return found[0]

    def ListFailedEvents(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        start = int(request.page_token or 0)
        end = start + min(request.page_size, 2)
        token = str(end) if end < len(self.events) else ""
        return api.ListFailedEventsResponse(
            failed_events=self.events[start:end], next_page_token=token
        )

    def GetFailedEvent(self, request: Any, context: Any) -> Any:
        found = api.FailedEvent()
        found.CopyFrom(self._find(request, context))
        found.payload, found.payload_json = b"123", '{\n  "orderId": "7"\n}'
        return api.GetFailedEventResponse(failed_event=found)

    def _replayed(self, found: api.FailedEvent) -> api.FailedEvent:
        if found.event_id not in self.stubborn:
            found.state = STATES.Value("FAILED_EVENT_STATE_REPLAYED")
        return found

    def ReplayFailedEvent(self, request: Any, context: Any) -> Any:
        return api.ReplayFailedEventResponse(
            failed_event=self._replayed(self._find(request, context))
        )

    def BatchReplayFailedEvents(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        if request.dry_run:
            return api.BatchReplayFailedEventsResponse(
                failed_events=self.events, tried_count=len(self.events), more=self.more
            )
        stay = [each for each in map(self._replayed, self.events) if each.event_id in self.stubborn]
        replayed = len(self.events) - len(stay)
        return api.BatchReplayFailedEventsResponse(
            failed_events=stay,
            replayed_count=replayed,
            tried_count=len(self.events),
            more=self.more,
        )

    def SetStoredVersion(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return api.SetStoredVersionResponse(stored_version=request.version)

    def DiscardFailedEvent(self, request: Any, context: Any) -> Any:
        found = self._find(request, context)
        found.state = STATES.Value("FAILED_EVENT_STATE_DISCARDED")
        return api.DiscardFailedEventResponse(failed_event=found)

    def BatchDiscardFailedEvents(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        shown = self.events if request.dry_run else ()
        return api.BatchDiscardFailedEventsResponse(
            discarded_count=len(self.events), more=self.more, failed_events=shown
        )

    def GetOutboxStats(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return api.GetOutboxStatsResponse(
            stream="S",
            waiting_count=2,
            oldest_waiting_time=timestamp(NINE),
            kept_count=9,
            highest_stream_seq=7,
            refused_events=self.refused,
        )

    def RepublishEvents(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return api.RepublishEventsResponse(event_count=5)

    def AdoptEvents(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        if request.after_stream_seq < 200:
            read = request.after_stream_seq + 100
            return api.AdoptEventsResponse(adopted_count=3, more=True, read_stream_seq=read)
        return api.AdoptEventsResponse(adopted_count=2, unreadable_count=1)


class Omctl:
    """omctl in a pipe. One fake is the order service, another is the other four services."""

    def __init__(self, order: Fake, others: Fake, addresses: tuple[str, str]) -> None:
        self.order, self.others = order, others
        names = ("WAREHOUSE", "FULFILLMENT", "SHIPPING", "PAYMENT")
        self.environment = {"ORDER_ADDRESS": addresses[0]} | {
            f"{name}_ADDRESS": addresses[1] for name in names
        }

    def __call__(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, ("events", *arguments), env=self.environment | environment)

    @property
    def requests(self) -> list[Any]:
        return [*self.order.requests, *self.others.requests]


@pytest.fixture
def omctl() -> Iterator[Omctl]:
    """The command line, with the order service on one port and the other four on another."""
    made: Any = Fake
    order, others = made(), made()
    servers, addresses = [], []
    for fake in (order, others):
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_FailedEventServiceServicer_to_server(fake, server)
        add_OutboxServiceServicer_to_server(fake, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        servers.append(server)
    yield Omctl(order, others, (addresses[0], addresses[1]))
    for server in servers:
        server.stop(None).wait()


def numbers(result: Result) -> list[int]:
    """Returns the numbers of the events in a table."""
    return [int(line.split()[1][-1]) for line in result.stdout.splitlines()[1:]]


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


@pytest.mark.parametrize("command", ["show", "replay", "discard"])
def test_unknown_event_exits_with_code_3(omctl: Omctl, command: str) -> None:
    """The exit code is 3, and the message names the command to look it up."""
    result = omctl(command, "order-payments", event(1).event_id)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "omctl: FAILED_EVENT_NOT_FOUND: " in result.stderr
    assert "omctl events failed" in result.stderr


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
    its = api.RefusedEvent(
        aggregate_id="a",
        event_id="e",
        type="T",
        payload_bytes=9,
        refusal="too large",
        create_time=timestamp(NINE),
    )
    omctl.order.refused = [its]
    lines = omctl("stats", "--service", "order").stdout.splitlines()
    assert lines[2:] == [
        "SERVICE  BLOCKED AGGREGATE  REFUSED EVENT  TYPE  BYTES  SINCE                WHY",
        f"order    a                  e              T         9  {AT}  too large",
    ]


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
        (("republish",), "give --aggregate or --since"),
        (("republish", "--before", "2026-01-31"), "give --aggregate or --since"),
    ],
)
def test_invalid_argument_is_a_usage_error(
    omctl: Omctl, arguments: tuple[str, ...], message: str
) -> None:
    """The exit code is 2, the message names the valid form, and no request is sent."""
    result = omctl(*arguments)
    assert (result.exit_code, omctl.requests) == (2, [])
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("failed",),
        ("show",),
        ("replay",),
        ("discard",),
        ("republish",),
        ("set-version",),
        ("stats",),
    ],
)
def test_help_lists_the_exit_codes(omctl: Omctl, command: tuple[str, ...]) -> None:
    """The help of every command lists the exit codes."""
    result = omctl(*command, "--help")
    assert result.exit_code == 0
    assert "0 done; 1 refused, or failed; 2 invalid command line" in " ".join(result.stdout.split())
