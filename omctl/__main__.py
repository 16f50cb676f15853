"""`omctl` (`.venv/bin/omctl`), or `python -m omctl`: registers the commands."""

import sys

import typer

from chassis.observe.telemetry import configure_log
from omctl import events, orders, payments, stock
from omctl.audit.command import audit
from omctl.errors import EXIT_CODES

app = typer.Typer(
    name="omctl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Orders, stock, money and events, from the command line.\n\nThe services are found by"
        " ORDER_ADDRESS (127.0.0.1:15051), WAREHOUSE_ADDRESS (127.0.0.1:15052), FULFILLMENT_ADDRESS"
        " (...:15053), SHIPPING_ADDRESS (...:15054) and PAYMENT_ADDRESS (...:15055)."
        " ORDERMESH_ACTOR (staff:7f3a) is the person that you act for: the history of each change"
        " names it as the claimed actor. Commands print tables, or ProtoJSON with --json. An error"
        " is one line on stderr."
    ),
    epilog=EXIT_CODES,
)
app.add_typer(orders.app, name="order")
app.add_typer(stock.app, name="stock")
app.add_typer(payments.app, name="payment")
app.add_typer(events.app, name="events")
app.command(epilog=EXIT_CODES)(audit)

if __name__ == "__main__":
    # Libraries log only errors, without personal data, and on stderr: stdout has the output only.
    configure_log("omctl", "error", sys.stderr)
    app(prog_name="omctl")
