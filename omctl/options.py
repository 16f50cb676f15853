"""Options of several commands."""

from typing import Annotated
from uuid import uuid4

import typer

from omctl import arguments

Json = Annotated[
    bool,
    typer.Option("--json", help="Print ProtoJSON: one document, or one on each line for a list."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the answer.")
]
Note = Annotated[
    str | None, typer.Option(help="A note for the history: 1 to 500 characters, no personal data.")
]
RequestId = Annotated[
    str | None,
    typer.Option(
        parser=arguments.uuid,
        metavar="UUID",
        help="Use the same id on each try, so that nothing is done twice; random by default.",
    ),
]

Services = Annotated[
    list[str] | None,
    typer.Option(
        "--service",
        parser=arguments.service,
        metavar="SERVICE",
        help="Only this service. Repeatable; all five by default.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing; count the events that match.")
]


def print_request_id(request_id: str | None) -> str:
    """Prints the request's id on stderr and returns it; a new one if None.

    Commands call it before they send a request: if the answer is lost, a repeat with this id is
    safe.
    """
    chosen = request_id or str(uuid4())
    typer.echo(f"request_id {chosen}", err=True)
    return chosen
