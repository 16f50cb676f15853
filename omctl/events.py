"""`omctl events ...`"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import uuid4

import typer
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub, OutboxServiceStub
from rich.console import Console

from chassis.rpc.client import Channel, ask, pages
from omctl import arguments, output, views
from omctl.calls import ask_each, run, settings
from omctl.errors import EXIT_CODES, FAILED
from omctl.options import Json, Note, RequestId, Timeout, print_request_id

if TYPE_CHECKING:  # they are types alone
    from ordermesh.ops.v1.ops_service_pb2_grpc import (
        FailedEventServiceAsyncStub,
        OutboxServiceAsyncStub,
    )

PAGE = 200
BATCH_MAX = 10_000

app = typer.Typer(
    no_args_is_help=True,
    help="List events that services could not handle, replay them, and inspect outboxes.",
    epilog=EXIT_CODES,
)

Services = Annotated[
    list[str] | None,
    typer.Option(
        "--service",
        parser=arguments.service,
        metavar="SERVICE",
        help="Only this service. Repeatable; all five by default.",
    ),
]
State = Annotated[
    list[int] | None,
    typer.Option(
        parser=arguments.failed_state,
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
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing; count the events that match.")
]
Consumer = Annotated[
    str,
    typer.Argument(
        parser=arguments.consumer, metavar="CONSUMER", help="The consumer, e.g. order-payments."
    ),
]
Event = Annotated[
    str, typer.Argument(parser=arguments.uuid, metavar="EVENT", help="The event's id.")
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
        found: list[api.FailedEvent] = []
        method, request = (
            _failed_events(channel).ListFailedEvents,
            api.ListFailedEventsRequest(filter=wanted),
        )
        async for page in pages(
            method, request, "failed_events", size=PAGE, limit=limit, timeout_s=timeout
        ):
            found += page
        return found, bool(request.page_token)

    answers = ask_each(_addresses(service, consumer), work)
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
    consumer: Consumer,
    event: Event,
    digest: Digest = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Shows one failed event: its error and its content."""

    async def work(channel: Channel) -> None:
        found = await _get(channel, consumer, event, digest, timeout)
        if json:
            output.document(found)
            return
        for fact in views.failed_event(found):
            typer.echo(output.printable(fact))
        for text in found.payload_json.splitlines():
            typer.echo(output.printable(text))

    run(_address(consumer), work)


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
    if event is not None:
        if dry_run:
            _show_one(str(consumer), event, digest, json=json, timeout=timeout)
        else:
            _replay_one(
                str(consumer),
                event,
                digest,
                note=note,
                request_id=request_id,
                json=json,
                timeout=timeout,
            )
        return
    request = api.BatchReplayFailedEventsRequest(
        request_id=print_request_id(request_id),
        filter=wanted,
        limit=limit,
        dry_run=dry_run,
        note=note,
    )

    async def work(channel: Channel) -> api.BatchReplayFailedEventsResponse:
        return await ask(
            _failed_events(channel).BatchReplayFailedEvents, request, timeout_s=timeout
        )

    answers = ask_each(_addresses(service, of_consumer), work)
    found = answers.found.values()
    _show(
        sorted((event for answer in found for event in answer.failed_events), key=_oldest_first),
        json=json,
    )
    tried = sum(answer.tried_count for answer in found)
    replayed = sum(answer.replayed_count for answer in found)
    typer.echo(
        f"{tried} would be tried." if dry_run else f"{replayed} of {tried} replayed.", err=True
    )
    _print_more(any(answer.more for answer in found))
    answers.end()
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
    if event is not None:
        if dry_run:
            _show_one(str(consumer), event, digest, json=json, timeout=timeout)
        else:
            _discard_one(
                str(consumer),
                event,
                digest,
                note=note,
                request_id=request_id,
                json=json,
                timeout=timeout,
            )
        return
    if not (service or wanted.ByteSize()):
        raise typer.BadParameter(
            "Give at least one filter: without one, all failed events of all services would be"
            " discarded."
        )
    request = api.BatchDiscardFailedEventsRequest(
        request_id=print_request_id(request_id),
        filter=wanted,
        limit=limit,
        dry_run=dry_run,
        note=note,
    )

    async def work(channel: Channel) -> api.BatchDiscardFailedEventsResponse:
        return await ask(
            _failed_events(channel).BatchDiscardFailedEvents, request, timeout_s=timeout
        )

    answers = ask_each(_addresses(service, of_consumer), work)
    for name, answer in answers.found.items() if json else ():
        output.line(answer, service=name)
    if dry_run and not json:
        shown = (event for answer in answers.found.values() for event in answer.failed_events)
        _show(sorted(shown, key=_oldest_first), json=False)
    count = sum(answer.discarded_count for answer in answers.found.values())
    typer.echo(f"{count} would be discarded." if dry_run else f"{count} discarded.", err=True)
    _print_more(any(answer.more for answer in answers.found.values()))
    answers.end()


@app.command("set-version", epilog=EXIT_CODES)
def set_version(
    service: Annotated[
        str,
        typer.Argument(
            parser=arguments.service, metavar="SERVICE", help="The service that stores the version."
        ),
    ],
    order: Annotated[
        str, typer.Argument(parser=arguments.uuid, metavar="ORDER", help="The order's id.")
    ],
    version: Annotated[
        int, typer.Argument(min=1, help="The version: later events above it are applied.")
    ],
    fulfillment: Annotated[
        str | None,
        typer.Option(
            parser=arguments.uuid,
            metavar="UUID",
            help="Set the version of this fulfilment of the order, not of the order.",
        ),
    ] = None,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Sets the version that a service has stored of an order or of a fulfilment. If it is too high,
    the service skips valid events.

    The command prints the request_id on stderr before it sends the request.
    """
    request = api.SetStoredVersionRequest(
        request_id=print_request_id(request_id),
        order_id=order,
        fulfillment_id=fulfillment,
        version=version,
        note=note,
    )

    async def work(channel: Channel) -> None:
        answer = await ask(_failed_events(channel).SetStoredVersion, request, timeout_s=timeout)
        if json:
            output.document(answer)
        else:
            typer.echo(f"{service} has version {answer.stored_version} of {fulfillment or order}.")

    run(settings().addresses[service], work)


@app.command(epilog=EXIT_CODES)
def republish(
    service: Services = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            parser=arguments.uuid,
            metavar="UUID",
            help="The events of this record, or all events of this order.",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=arguments.TIME_FORMATS, help="Events of this time, or later."),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(formats=arguments.TIME_FORMATS, help="Events before this time."),
    ] = None,
    dry_run: DryRun = False,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 60.0,
) -> None:
    """Publishes events again, by record, by time or by both. They keep their ids, so a consumer
    that has handled them skips them.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id publishes nothing again.
    """
    if aggregate is None and since is None:
        raise typer.BadParameter("Choose the events: give --aggregate or --since.")
    request = api.RepublishEventsRequest(
        request_id=print_request_id(request_id),
        aggregate_id=aggregate,
        create_time_from=arguments.moment(since),
        create_time_before=arguments.moment(before),
        dry_run=dry_run,
        note=note,
    )

    async def work(channel: Channel) -> api.RepublishEventsResponse:
        return await ask(_outbox(channel).RepublishEvents, request, timeout_s=timeout)

    answers = ask_each(_addresses(service), work)
    for name, answer in answers.found.items() if json else ():
        output.line(answer, service=name)
    if not json:
        output.show(views.republished(answers.found), Console())
    answers.end()


@app.command(epilog=EXIT_CODES)
def adopt(
    service: Services = None, note: Note = None, json: Json = False, timeout: Timeout = 60.0
) -> None:
    """Stores the events that a service's stream has and its outbox lacks, after its database was
    restored.

    It changes no order, payment or other record. A repeat stores nothing twice.
    """

    async def work(channel: Channel) -> tuple[int, int]:
        adopted, unreadable, after, more = 0, 0, 0, True
        while more:
            request = api.AdoptEventsRequest(
                request_id=str(uuid4()),
                note=note,
                after_stream_seq=after,
            )
            answer = await ask(_outbox(channel).AdoptEvents, request, timeout_s=timeout)
            adopted += answer.adopted_count
            unreadable += answer.unreadable_count
            after, more = answer.read_stream_seq, answer.more
        return adopted, unreadable

    answers = ask_each(_addresses(service), work)
    for name, (adopted, unreadable) in answers.found.items():
        if json:
            found = {"service": name, "adopted": adopted, "unreadable": unreadable}
            typer.echo(dumps(found))
            continue
        typer.echo(f"{name}: {adopted} events stored.")
        if unreadable:
            text = f"{name}: {unreadable} events were not stored: the service's log names them."
            typer.echo(text, err=True)
    answers.end()


@app.command(epilog=EXIT_CODES)
def stats(service: Services = None, json: Json = False, timeout: Timeout = 10.0) -> None:
    """Shows each service's outbox: the number and age of unpublished events, the last published
    sequence, and the events that the stream refuses.
    """

    async def work(channel: Channel) -> api.GetOutboxStatsResponse:
        return await ask(
            _outbox(channel).GetOutboxStats, api.GetOutboxStatsRequest(), timeout_s=timeout
        )

    answers = ask_each(_addresses(service), work)
    for name, answer in answers.found.items() if json else ():
        output.line(answer, service=name)
    if not json:
        output.show(views.outboxes(answers.found), Console())
        if refused := views.refused_events(answers.found):
            output.show(refused, Console())
    answers.end()


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


def _print_more(more: bool) -> None:
    if more:
        typer.echo("More events match: repeat the command, or raise --limit.", err=True)


def _show_one(consumer: str, event: str, digest: str | None, *, json: bool, timeout: float) -> None:
    async def work(channel: Channel) -> None:
        _show([await _get(channel, consumer, event, digest, timeout)], json=json)

    run(_address(consumer), work)


def _replay_one(
    consumer: str,
    event: str,
    digest: str | None,
    *,
    note: str | None,
    request_id: str | None,
    json: bool,
    timeout: float,
) -> None:
    request = api.ReplayFailedEventRequest(
        request_id=print_request_id(request_id),
        consumer=consumer,
        event_id=event,
        digest=digest,
        note=note,
    )

    async def work(channel: Channel) -> None:
        found = (
            await ask(_failed_events(channel).ReplayFailedEvent, request, timeout_s=timeout)
        ).failed_event
        _show([found], json=json)
        if found.state != api.FAILED_EVENT_STATE_REPLAYED:
            typer.echo(
                f"omctl: The event failed again: {output.printable(found.error or found.reason)}",
                err=True,
            )
            raise typer.Exit(FAILED)

    run(_address(consumer), work)


def _discard_one(
    consumer: str,
    event: str,
    digest: str | None,
    *,
    note: str | None,
    request_id: str | None,
    json: bool,
    timeout: float,
) -> None:
    request = api.DiscardFailedEventRequest(
        request_id=print_request_id(request_id),
        consumer=consumer,
        event_id=event,
        digest=digest,
        note=note,
    )

    async def work(channel: Channel) -> None:
        answer = await ask(_failed_events(channel).DiscardFailedEvent, request, timeout_s=timeout)
        _show([answer.failed_event], json=json)

    run(_address(consumer), work)


async def _get(
    channel: Channel, consumer: str, event: str, digest: str | None, timeout_s: float
) -> api.FailedEvent:
    request = api.GetFailedEventRequest(consumer=consumer, event_id=event, digest=digest)
    return (
        await ask(_failed_events(channel).GetFailedEvent, request, timeout_s=timeout_s)
    ).failed_event


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


def _addresses(services: Sequence[str] | None, consumer: str | None = None) -> Mapping[str, str]:
    """Returns the addresses of the named services, or of the consumer's service, or of all."""
    wanted = set(services or ()) or ({_service(consumer)} if consumer else None)
    return {
        name: address
        for name, address in settings().addresses.items()
        if wanted is None or name in wanted
    }


def _address(consumer: str) -> str:
    return settings().addresses[_service(consumer)]


def _service(consumer: str) -> str:
    return consumer.partition("-")[0]


def _failed_events(channel: Channel) -> "FailedEventServiceAsyncStub":
    return FailedEventServiceStub(channel)


def _outbox(channel: Channel) -> "OutboxServiceAsyncStub":
    return OutboxServiceStub(channel)
