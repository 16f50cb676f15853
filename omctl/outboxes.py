"""Commands of `omctl events` on outboxes and on stored versions."""

from datetime import datetime
from json import dumps
from typing import Annotated
from uuid import uuid4

import typer
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub, OutboxServiceStub
from rich.console import Console

from chassis.rpc.client import Channel, ask
from omctl import arguments, output, views
from omctl.calls import addresses_of, run, run_each, sending, settings
from omctl.errors import EXIT_CODES
from omctl.options import DryRun, Json, Note, RequestId, Services, Timeout, print_request_id

app = typer.Typer()


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
    address = settings().addresses[service]
    answer = run(address, sending(FailedEventServiceStub, request, timeout))
    if json:
        output.document(answer)
    else:
        typer.echo(f"{service} has version {answer.stored_version} of {fulfillment or order}.")


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
    answers = run_each(addresses_of(service), sending(OutboxServiceStub, request, timeout))
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
            answer = await ask(OutboxServiceStub(channel).AdoptEvents, request, timeout_s=timeout)
            adopted += answer.adopted_count
            unreadable += answer.unreadable_count
            after, more = answer.read_stream_seq, answer.more
        return adopted, unreadable

    answers = run_each(addresses_of(service), work)
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
    answers = run_each(
        addresses_of(service), sending(OutboxServiceStub, api.GetOutboxStatsRequest(), timeout)
    )
    for name, answer in answers.found.items() if json else ():
        output.line(answer, service=name)
    if not json:
        output.show(views.outboxes(answers.found), Console())
        if refused := views.refused_events(answers.found):
            output.show(refused, Console())
    answers.end()
