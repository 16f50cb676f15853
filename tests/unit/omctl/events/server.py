"""Services with failed events and outboxes that the test sets, and `omctl events` run against
them. No tests here."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import (
    FailedEventServiceServicer,
    OutboxServiceServicer,
)
from typer.testing import CliRunner, Result

from chassis.rpc.status import encode
from chassis.values.convert import timestamp
from chassis.values.errors import Failure, NotFound
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


def numbers(result: Result) -> list[int]:
    """Returns the numbers of the events in a table."""
    return [int(line.split()[1][-1]) for line in result.stdout.splitlines()[1:]]
