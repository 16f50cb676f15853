"""`omctl payment ...`"""

from typing import Annotated

import typer
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from rich.console import Console

from chassis.rpc.client import Channel, ask, pages
from omctl import arguments, output, views
from omctl.calls import run, settings
from omctl.errors import EXIT_CODES
from omctl.options import Json, Note, RequestId, Timeout, told

PAGE = 1_000

app = typer.Typer(
    no_args_is_help=True, help="Look at an order's money, and give some back.", epilog=EXIT_CODES
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
    """Lists an order's payments, the newest first, with what went back of each."""
    request = payment_service_pb2.ListPaymentsRequest(order_id=order)

    async def work(channel: Channel) -> None:
        every = pages(
            PaymentServiceStub(channel).ListPayments,
            request,
            "payments",
            size=PAGE,
            timeout_s=timeout,
        )
        await output.listing(every, request, views.payments, json=json)

    run(settings().payment_address, work)


@app.command(epilog=EXIT_CODES)
def contradictions(
    order: Annotated[
        str, typer.Argument(parser=arguments.uuid, metavar="ORDER", help="The order's id.")
    ],
    timeout: Timeout = 10.0,
) -> None:
    """Lists what processors said of an order's payments against what they had said before."""
    request = payment_service_pb2.ListPaymentsRequest(order_id=order)

    async def work(channel: Channel) -> None:
        every = pages(
            PaymentServiceStub(channel).ListPayments,
            request,
            "payments",
            size=PAGE,
            timeout_s=timeout,
        )
        await output.listing(every, request, views.contradictions, json=False)

    run(settings().payment_address, work)


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
        str, typer.Option(metavar="TEXT", help="What was found at the processor, and done.")
    ],
    request_id: RequestId = None,
    timeout: Timeout = 15.0,
) -> None:
    """Marks a processor's contradiction as resolved. No money moves.

    The request_id is printed on stderr before anything is sent.
    """
    request = payment_service_pb2.ResolveContradictionRequest(
        request_id=told(request_id), payment_id=payment, contradiction_id=contradiction, note=note
    )

    async def work(channel: Channel) -> None:
        answer = await ask(
            PaymentServiceStub(channel).ResolveContradiction, request, timeout_s=timeout
        )
        output.show(views.contradictions([answer.payment]), Console())

    run(settings().payment_address, work)


@app.command(epilog=EXIT_CODES)
def void(
    payment: Payment,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 15.0,
) -> None:
    """Gives back what is set aside on the card, and not captured.

    The request_id is printed on stderr before anything is sent: the same command with --request-id
    voids nothing twice.
    """
    request = payment_service_pb2.VoidPaymentRequest(
        request_id=told(request_id), payment_id=payment, note=note
    )

    async def work(channel: Channel) -> None:
        answer = await ask(PaymentServiceStub(channel).VoidPayment, request, timeout_s=timeout)
        output.answer(answer, views.payments([answer.payment]), json=json)

    run(settings().payment_address, work)


@app.command(epilog=EXIT_CODES)
def refund(
    payment: Payment,
    amount: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="How much; all that is left where not given."),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217, e.g. GBP: of the amount.")] = None,
    return_: Annotated[
        str | None,
        typer.Option(
            "--return",
            parser=arguments.uuid,
            metavar="RETURN",
            help="Try again what the processor has refused to refund of this return.",
        ),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="VERSION",
            help="Refuse where the payment has changed since it had this version.",
        ),
    ] = None,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 15.0,
) -> None:
    """Gives captured money back. Nothing happens to goods: a refund of goods is a return.

    The request_id is printed on stderr before anything is sent: the same command with --request-id
    refunds nothing twice.
    """
    if (amount is None) != (currency is None):
        raise typer.BadParameter("--amount and --currency belong together.")
    request = payment_service_pb2.RefundPaymentRequest(
        request_id=told(request_id),
        payment_id=payment,
        amount=arguments.amount(amount, currency.upper()) if amount and currency else None,
        return_id=return_,
        expected_version=expected_version,
        note=note,
    )

    async def work(channel: Channel) -> None:
        answer = await ask(PaymentServiceStub(channel).RefundPayment, request, timeout_s=timeout)
        output.answer(answer, views.payments([answer.payment]), json=json)

    run(settings().payment_address, work)
