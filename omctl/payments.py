"""`omctl payment ...`"""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from rich.console import Console

from omctl import arguments, output, views
from omctl.calls import print_list, run, sending, settings
from omctl.errors import EXIT_CODES
from omctl.options import Json, Note, RequestId, Timeout, print_request_id

PAGE = 1_000

app = typer.Typer(
    no_args_is_help=True, help="List and refund an order's payments.", epilog=EXIT_CODES
)

Payment = Annotated[
    str,
    typer.Argument(
        parser=arguments.uuid, metavar="PAYMENT", help="Its id: see `omctl payment list`."
    ),
]


@app.command("list", epilog=EXIT_CODES)
def list_(
    order: Annotated[
        str, typer.Argument(parser=arguments.uuid, metavar="ORDER", help="The order's id.")
    ],
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Lists an order's payments, newest first, with the refunded amount of each."""
    _print_payments(order, views.payments, json=json, timeout_s=timeout)


@app.command(epilog=EXIT_CODES)
def contradictions(
    order: Annotated[
        str, typer.Argument(parser=arguments.uuid, metavar="ORDER", help="The order's id.")
    ],
    timeout: Timeout = 10.0,
) -> None:
    """Lists reports on an order's payments in which a processor contradicts its earlier report."""
    _print_payments(order, views.contradictions, json=False, timeout_s=timeout)


@app.command(epilog=EXIT_CODES)
def resolve(
    payment: Payment,
    contradiction: Annotated[
        str,
        typer.Argument(
            parser=arguments.uuid,
            metavar="CONTRADICTION",
            help="Its id: see `omctl payment contradictions`.",
        ),
    ],
    note: Annotated[
        str, typer.Option(metavar="TEXT", help="The finding at the processor, and the remedy.")
    ],
    request_id: RequestId = None,
    timeout: Timeout = 15.0,
) -> None:
    """Marks a processor's contradiction as resolved. No money moves.

    The command prints the request_id on stderr before it sends the request.
    """
    request = payment_service_pb2.ResolveContradictionRequest(
        request_id=print_request_id(request_id),
        payment_id=payment,
        contradiction_id=contradiction,
        note=note,
    )
    answer = run(settings().payment_address, sending(PaymentServiceStub, request, timeout))
    output.show(views.contradictions([answer.payment]), Console())


@app.command(epilog=EXIT_CODES)
def void(
    payment: Payment,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 15.0,
) -> None:
    """Voids an authorised payment that is not captured.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id voids nothing twice.
    """
    request = payment_service_pb2.VoidPaymentRequest(
        request_id=print_request_id(request_id), payment_id=payment, note=note
    )
    answer = run(settings().payment_address, sending(PaymentServiceStub, request, timeout))
    output.answer(answer, views.payments([answer.payment]), json=json)


@app.command(epilog=EXIT_CODES)
def refund(
    payment: Payment,
    amount: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="The amount; all that is not refunded by default."),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The amount's, e.g. GBP (ISO 4217).")] = None,
    return_: Annotated[
        str | None,
        typer.Option(
            "--return",
            parser=arguments.uuid,
            metavar="RETURN",
            help="Retry the refund of this return that the processor has refused.",
        ),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="VERSION",
            help="Refuse if the payment has another version than this one.",
        ),
    ] = None,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 15.0,
) -> None:
    """Refunds captured money. It does not return goods: create a return for that.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id refunds nothing twice.
    """
    if (amount is None) != (currency is None):
        raise typer.BadParameter("Give --amount and --currency together.")
    request = payment_service_pb2.RefundPaymentRequest(
        request_id=print_request_id(request_id),
        payment_id=payment,
        amount=arguments.amount(amount, currency.upper()) if amount and currency else None,
        return_id=return_,
        expected_version=expected_version,
        note=note,
    )
    answer = run(settings().payment_address, sending(PaymentServiceStub, request, timeout))
    output.answer(answer, views.payments([answer.payment]), json=json)


def _print_payments(
    order_id: str,
    view: Callable[[Sequence[payment_pb2.Payment]], output.Table],
    *,
    json: bool,
    timeout_s: float,
) -> None:
    print_list(
        settings().payment_address,
        PaymentServiceStub,
        payment_service_pb2.ListPaymentsRequest(order_id=order_id),
        "payments",
        view,
        page_size=PAGE,
        json=json,
        timeout_s=timeout_s,
    )
