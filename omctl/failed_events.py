"""Commands of `omctl events` on events that services could not handle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, cast

import typer
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub
from rich.console import Console

from chassis.rpc.client import Channel, pages
from omctl import arguments, output, views
from omctl.calls import Answers, addresses_of, run, run_each, sending, settings
from omctl.errors import EXIT_CODES, FAILED
from omctl.options import DryRun, Json, Note, RequestId, Services, Timeout, print_request_id

PAGE = 200
BATCH_MAX = 10_000

app = typer.Typer()

State = Annotated[
    list[int] | None,
    typer.Option(
        parser=arguments.value_of(api.FailedEventState),
        metavar="STATE",
        help=(
            "deferred, failed, replayed or discarded. Repeatable; deferred and failed by default."
        ),
    ),
]
Subject = Annotated[
    str | None, typer.Option(help="Only with this subject, e.g. payments.payment.confirmed.")
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type", help="Only of this type, e.g. ordermesh.payment.events.v1.PaymentConfirmed."
    ),
]
Reason = Annotated[str | None, typer.Option(help="Only with this reason, e.g. ORDER_NOT_FOUND.")]
OfConsumer = Annotated[
    str | None,
    typer.Option(
        "--consumer", parser=arguments.consumer, metavar="CONSUMER", help="Only of this consumer."
    ),
]
Aggregate = Annotated[str | None, typer.Option(help="Only about this record, e.g. an order's id.")]
Since = Annotated[
    datetime | None,
    typer.Option(formats=arguments.TIME_FORMATS, help="Failed first at this time, or later."),
]
Before = Annotated[
    datetime | None,
    typer.Option(formats=arguments.TIME_FORMATS, help="Failed first before this time."),
]
AnyConsumer = Annotated[
    str | None,
    typer.Argument(
        parser=arguments.consumer, metavar="CONSUMER", help="The consumer, e.g. order-payments."
    ),
]
AnyEvent = Annotated[
    str | None, typer.Argument(parser=arguments.uuid, metavar="EVENT", help="The event's id.")
]
Digest = Annotated[
    str | None, typer.Option(help="The body's digest, if two came under one event id: see `show`.")
]
All = Annotated[
    bool,
    typer.Option("--all", help="All events that match the filters, oldest first, instead of one."),
]
Limit = Annotated[
    int, typer.Option(min=1, max=BATCH_MAX, help="With --all: at most this many of each service.")
]


@app.command(epilog=EXIT_CODES)
def failed(
    service: Services = None,
    state: State = None,
    consumer: OfConsumer = None,
    subject: Subject = None,
    type_: Type = None,
    reason: Reason = None,
    aggregate: Aggregate = None,
    since: Since = None,
    before: Before = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0: all.")] = 50,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Lists events that services could not handle, oldest failure first. An event is listed if it
    matches all given filters.
    """
    wanted = _filter(state, consumer, subject, type_, reason, aggregate, since, before)

    async def work(channel: Channel) -> tuple[list[api.FailedEvent], bool]:
        request = api.ListFailedEventsRequest(filter=wanted)
        method = FailedEventServiceStub(channel).ListFailedEvents
        every = pages(method, request, "failed_events", size=PAGE, limit=limit, timeout_s=timeout)
        found = [event async for page in every for event in page]
        return found, bool(request.page_token)

    answers = run_each(_addresses(service, consumer), work)
    every = sorted(
        (event for found, _ in answers.found.values() for event in found), key=_oldest_first
    )
    shown = every[:limit] if limit else every
    _show(shown, json=json)
    if not json:
        output.more(len(every) > len(shown) or any(more for _, more in answers.found.values()))
    answers.end()


@app.command(epilog=EXIT_CODES)
def show(
    consumer: Annotated[
        str,
        typer.Argument(
            parser=arguments.consumer, metavar="CONSUMER", help="The consumer, e.g. order-payments."
        ),
    ],
    event: Annotated[
        str, typer.Argument(parser=arguments.uuid, metavar="EVENT", help="The event's id.")
    ],
    digest: Digest = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Shows one failed event: its error and its content."""
    request = api.GetFailedEventRequest(consumer=consumer, event_id=event, digest=digest)
    found = _event_of(request, timeout)
    if json:
        output.document(found)
        return
    for text in (*views.failed_event(found), *found.payload_json.splitlines()):
        typer.echo(output.printable(text))


@app.command(epilog=EXIT_CODES)
def replay(
    consumer: AnyConsumer = None,
    event: AnyEvent = None,
    digest: Digest = None,
    all_: All = False,
    service: Services = None,
    state: State = None,
    of_consumer: OfConsumer = None,
    subject: Subject = None,
    type_: Type = None,
    reason: Reason = None,
    aggregate: Aggregate = None,
    since: Since = None,
    before: Before = None,
    limit: Limit = BATCH_MAX,
    dry_run: DryRun = False,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 60.0,
) -> None:
    """Hands a failed event to its handler again, or all that match the filters. An event takes
    effect once only.

    The exit code is 1 if an event fails again: it stays, with the new error. The command prints the
    request_id on stderr before it sends the request. The same command with --request-id tries the
    same events, and no others.
    """
    wanted = _filter(state, of_consumer, subject, type_, reason, aggregate, since, before)
    _one_or_all(consumer, event, all_, service, wanted)
    change = Change(dry_run=dry_run, note=note, request_id=request_id, timeout_s=timeout)
    if event is not None:
        names = {"consumer": consumer, "event_id": event, "digest": digest}
        _replay_one(names, change, json=json)
        return
    answers = _change_all(
        api.BatchReplayFailedEventsRequest,
        _addresses(service, of_consumer),
        {"filter": wanted, "limit": limit},
        change,
    )
    found = answers.found.values()
    _show(
        sorted((event for answer in found for event in answer.failed_events), key=_oldest_first),
        json=json,
    )
    tried = sum(answer.tried_count for answer in found)
    replayed = sum(answer.replayed_count for answer in found)
    _end(answers, f"{tried} would be tried." if dry_run else f"{replayed} of {tried} replayed.")
    if not dry_run and replayed < tried:
        raise typer.Exit(FAILED)


@app.command(epilog=EXIT_CODES)
def discard(
    consumer: AnyConsumer = None,
    event: AnyEvent = None,
    digest: Digest = None,
    all_: All = False,
    service: Services = None,
    state: State = None,
    of_consumer: OfConsumer = None,
    subject: Subject = None,
    type_: Type = None,
    reason: Reason = None,
    aggregate: Aggregate = None,
    since: Since = None,
    before: Before = None,
    limit: Limit = BATCH_MAX,
    dry_run: DryRun = False,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 30.0,
) -> None:
    """Discards a failed event, or all that match the filters: the service does not try them again.
    `replay` still hands them to their handler.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id discards no further event.
    """
    wanted = _filter(state, of_consumer, subject, type_, reason, aggregate, since, before)
    _one_or_all(consumer, event, all_, service, wanted)
    change = Change(dry_run=dry_run, note=note, request_id=request_id, timeout_s=timeout)
    if event is not None:
        names = {"consumer": consumer, "event_id": event, "digest": digest}
        _show([_change_one(api.DiscardFailedEventRequest, names, change)], json=json)
        return
    if not (service or wanted.ByteSize()):
        raise typer.BadParameter(
            "Give at least one filter: without one, all failed events of all services would be"
            " discarded."
        )
    answers = _change_all(
        api.BatchDiscardFailedEventsRequest,
        _addresses(service, of_consumer),
        {"filter": wanted, "limit": limit},
        change,
    )
    for name, answer in answers.found.items() if json else ():
        output.line(answer, service=name)
    if dry_run and not json:
        shown = (event for answer in answers.found.values() for event in answer.failed_events)
        _show(sorted(shown, key=_oldest_first), json=False)
    count = sum(answer.discarded_count for answer in answers.found.values())
    _end(answers, f"{count} would be discarded." if dry_run else f"{count} discarded.")


def _one_or_all(
    consumer: str | None,
    event: str | None,
    all_: bool,
    services: Sequence[str] | None,
    wanted: api.FailedEventFilter,
) -> None:
    """Raises BadParameter unless the arguments name one event, or --all is given."""
    if all_ == (event is not None) or (all_ and consumer):
        raise typer.BadParameter(
            "Name one event by CONSUMER and EVENT, or give --all, with filters."
        )
    if not all_ and (services or wanted.ByteSize()):
        raise typer.BadParameter("Filters go with --all.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The options of a change that do not choose its events."""

    dry_run: bool
    note: str | None
    request_id: str | None
    timeout_s: float


def _replay_one(names: Mapping[str, Any], change: Change, *, json: bool) -> None:
    """Replays one event. Exits with FAILED if it fails again."""
    changed = _change_one(api.ReplayFailedEventRequest, names, change)
    _show([changed], json=json)
    if not change.dry_run and changed.state != api.FAILED_EVENT_STATE_REPLAYED:
        error = output.printable(changed.error or changed.reason)
        typer.echo(f"omctl: The event failed again: {error}", err=True)
        raise typer.Exit(FAILED)


def _change_one(kind: Any, names: Mapping[str, Any], change: Change) -> api.FailedEvent:
    """Returns one event after the change of a request of this kind; in a dry run as it is."""
    if change.dry_run:
        return _event_of(api.GetFailedEventRequest(**names), change.timeout_s)
    request = kind(request_id=print_request_id(change.request_id), note=change.note, **names)
    return _event_of(request, change.timeout_s)


def _change_all(
    kind: Any, addresses: Mapping[str, str], chosen: Mapping[str, Any], change: Change
) -> Answers[Any]:
    """Returns the services' answers to a request of this kind, which changes the chosen events."""
    request = kind(
        request_id=print_request_id(change.request_id),
        dry_run=change.dry_run,
        note=change.note,
        **chosen,
    )
    return run_each(addresses, sending(FailedEventServiceStub, request, change.timeout_s))


def _end(answers: Answers[Any], count: str) -> None:
    """Prints how many events were changed, and whether more match. Exits if a service failed."""
    typer.echo(count, err=True)
    if any(answer.more for answer in answers.found.values()):
        typer.echo("More events match: repeat the command, or raise --limit.", err=True)
    answers.end()


def _event_of(request: Any, timeout_s: float) -> api.FailedEvent:
    """Returns the event of the request, from the service of its consumer."""
    address = settings().addresses[_service(request.consumer)]
    answer = run(address, sending(FailedEventServiceStub, request, timeout_s))
    found: api.FailedEvent = answer.failed_event
    return found


def _filter(
    states: Sequence[int] | None,
    consumer: str | None,
    subject: str | None,
    type_: str | None,
    reason: str | None,
    aggregate: str | None,
    since: datetime | None,
    before: datetime | None,
) -> api.FailedEventFilter:
    return api.FailedEventFilter(
        states=cast("Any", states or []),
        consumer=consumer,
        subject=subject,
        type=type_,
        reason=reason,
        aggregate_id=aggregate,
        first_fail_time_from=arguments.moment(since),
        first_fail_time_before=arguments.moment(before),
    )


def _show(events: Sequence[api.FailedEvent], *, json: bool) -> None:
    for event in events if json else ():
        output.line(event)
    if not json:
        output.show(views.failed_events(events), Console())


def _oldest_first(event: api.FailedEvent) -> tuple[int, str, str]:
    return event.first_fail_time.ToNanoseconds(), event.consumer, event.event_id


def _addresses(services: Sequence[str] | None, consumer: str | None) -> Mapping[str, str]:
    """Returns the addresses of the named services, or of the consumer's service, or of all."""
    if consumer and not services:
        return addresses_of([_service(consumer)])
    return addresses_of(services)


def _service(consumer: str) -> str:
    return consumer.partition("-")[0]
