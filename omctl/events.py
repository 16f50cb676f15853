"""`omctl events ...`"""

import typer

from omctl import failed_events, outboxes
from omctl.errors import EXIT_CODES

app = typer.Typer(
    no_args_is_help=True,
    help="List events that services could not handle, replay them, and inspect outboxes.",
    epilog=EXIT_CODES,
)
app.add_typer(failed_events.app)
app.add_typer(outboxes.app)
