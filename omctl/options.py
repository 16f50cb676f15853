"""The options that many commands have, and what is said of a request's id."""

from typing import Annotated
from uuid import uuid4

import typer

from omctl import arguments

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="ProtoJSON: one document, or one on each line where there may be many."
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the answer.")
]
Note = Annotated[
    str | None, typer.Option(help="Why, for the history: 1 to 500 characters, no personal data.")
]
RequestId = Annotated[
    str | None,
    typer.Option(
        parser=arguments.uuid,
        metavar="UUID",
        help="The same on each try, so that nothing is done twice; made up where not given.",
    ),
]


def told(request_id: str | None) -> str:
    """The request's id, told before anything is sent: where the answer is lost, the same one is
    safe.
    """
    chosen = request_id or str(uuid4())
    typer.echo(f"request_id {chosen}", err=True)
    return chosen
