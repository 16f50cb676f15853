"""`omctl order ...`"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

import typer
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from rich.console import Console

from chassis.rpc.client import Channel, ask
from chassis.values.errors import Failure, NotFound
from omctl import arguments, output, views
from omctl.calls import connected, fail, print_list, run, sending, settings
from omctl.errors import EXIT_CODES, FAILED, exit_code
from omctl.names import name_of
from omctl.options import Json, Note, RequestId, Timeout, print_request_id
from omctl.undo import Undo
from omctl.watching import timeline, transitions

if TYPE_CHECKING:  # it is a type alone
    from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceAsyncStub

# Statuses after which no automatic step of an order follows.
ENDS = frozenset({"delivered", "cancelled", "refunded", "failed"})
PAGE = 100

app = typer.Typer(no_args_is_help=True, help="Create, show and cancel orders.", epilog=EXIT_CODES)

OrderArgument = Annotated[
    str, typer.Argument(metavar="ORDER", help="Its id, or its number (OM-...).")
]
Reason = Annotated[
    str | None,
    typer.Option(
        metavar="REASON", help="In capitals, e.g. OUT_OF_SEASON; CUSTOMER_REQUEST by default."
    ),
]
Items = Annotated[
    list[str],
    typer.Option(metavar="SKU:QUANTITY:PRICE", help="A line, e.g. TEAPOT:2:18.95. Repeatable."),
]
AddressLines = Annotated[
    list[str], typer.Option(help="Street and house. Repeatable, up to four lines.")
]
CustomerId = Annotated[str | None, typer.Option(help="The storefront's name for the customer.")]
ExternalReference = Annotated[
    str | None, typer.Option(help="The storefront's number for the order.")
]
UniqueReference = Annotated[
    bool,
    typer.Option(
        "--unique-reference", help="Refuse if another order of the customer reserves this number."
    ),
]


@app.command(epilog=EXIT_CODES)
def create(
    item: Items,
    currency: Annotated[str, typer.Option(help="ISO 4217, e.g. GBP.")],
    name: Annotated[str, typer.Option(help="The recipient's full name.")],
    country: Annotated[str, typer.Option(help="ISO 3166-1 alpha-2, e.g. GB.")],
    address_line: AddressLines,
    locality: Annotated[str, typer.Option(help="City.")] = "",
    postal_code: Annotated[str, typer.Option()] = "",
    administrative_area: Annotated[str, typer.Option(help="State, county or province.")] = "",
    email: Annotated[str, typer.Option()] = "",
    phone: Annotated[str, typer.Option()] = "",
    customer_id: CustomerId = None,
    external_reference: ExternalReference = None,
    unique_reference: UniqueReference = False,
    discount: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Discount on the whole order.")
    ] = None,
    tax: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Tax on the whole order.")
    ] = None,
    shipping: Annotated[str | None, typer.Option(metavar="AMOUNT")] = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Creates an order and reserves its stock; the order is pending until it is paid.

    The command prints the request_id on stderr before it sends the request. If the answer is lost,
    the same command with --request-id returns the same order and creates no second one.
    """
    currency = currency.upper()
    request = order_service_pb2.CreateOrderRequest(
        customer_id=customer_id,
        external_reference=external_reference,
        unique_external_reference=unique_reference,
        items=[arguments.order_item(each, currency) for each in item],
        discount_amount=None if discount is None else arguments.amount(discount, currency),
        tax_amount=None if tax is None else arguments.amount(tax, currency),
        shipping_amount=None if shipping is None else arguments.amount(shipping, currency),
        recipient=order_pb2.Recipient(
            name=name,
            address_lines=address_line,
            locality=locality,
            administrative_area=administrative_area,
            postal_code=postal_code,
            country_code=country.upper(),
            email=email,
            phone=phone,
        ),
        request_id=print_request_id(request_id),  # last: an invalid command line prints no id
    )
    answer = run(settings().order_address, sending(OrderServiceStub, request, timeout))
    _show(answer.order, json=json)


@app.command(epilog=EXIT_CODES)
def get(order: OrderArgument, json: Json = False, timeout: Timeout = 10.0) -> None:
    """Shows one order: its status, its lines, its parcels."""
    _show(run(settings().order_address, partial(_find, which=order, timeout_s=timeout)), json=json)


@app.command("list", epilog=EXIT_CODES)
def list_(
    status: Annotated[
        list[int] | None,
        typer.Option(
            parser=arguments.value_of(order_pb2.OrderStatus),
            metavar="STATUS",
            help="Only this. Repeatable.",
        ),
    ] = None,
    stock_status: Annotated[
        int | None,
        typer.Option(
            parser=arguments.value_of(order_pb2.StockStatus),
            metavar="STATUS",
            help="E.g. commit_pending.",
        ),
    ] = None,
    customer_id: Annotated[str | None, typer.Option()] = None,
    external_reference: Annotated[str | None, typer.Option()] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=arguments.TIME_FORMATS, help="Placed at this time, or later."),
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(formats=arguments.TIME_FORMATS, help="Placed before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0: all.")] = 50,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Lists orders, newest first. An order is listed if it matches all given filters."""
    request = order_service_pb2.ListOrdersRequest(
        statuses=cast("Any", status or []),
        customer_id=customer_id,
        external_reference=external_reference,
        create_time_from=arguments.moment(since),
        create_time_before=arguments.moment(before),
        stock_status=cast("Any", stock_status),
    )

    print_list(
        settings().order_address,
        OrderServiceStub,
        request,
        "orders",
        views.orders,
        page_size=PAGE,
        limit=limit,
        json=json,
        timeout_s=timeout,
    )


@app.command("timeline", epilog=EXIT_CODES)
def timeline_(order: OrderArgument, json: Json = False, timeout: Timeout = 10.0) -> None:
    """Shows an order's transitions so far, oldest first."""

    async def work(channel: Channel) -> None:
        order_id = (await _find(channel, order, timeout)).order_id
        async for change in transitions(OrderServiceStub(channel), order_id, timeout):
            _print_transition(change, json=json)

    run(settings().order_address, work)


@app.command(epilog=EXIT_CODES)
def watch(
    order: OrderArgument,
    until: Annotated[
        int | None,
        typer.Option(
            parser=arguments.value_of(order_pb2.OrderStatus),
            metavar="STATUS",
            help="Wait for this status; exit code 1 if the order ends in another one.",
        ),
    ] = None,
    json: Json = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds to watch at most; exit code 4 after them."),
    ] = None,
    idle_timeout: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds without an answer after which the service counts as unavailable."
        ),
    ] = 60.0,
) -> None:
    """Shows an order's transitions, then each new one, until the order is delivered, cancelled,
    refunded or failed.
    """
    awaited = None if until is None else name_of(order_pb2.OrderStatus, until)
    ends = ENDS - {"delivered"} if awaited == "refunded" else ENDS

    async def work(channel: Channel) -> None:
        orders = OrderServiceStub(channel)
        order_id = (await _find(channel, order, 10.0)).order_id
        async with aclosing(timeline(orders, order_id, idle_timeout)) as changes:
            async for change in changes:
                _print_transition(change, json=json)
                status = name_of(order_pb2.OrderStatus, change.new_status)
                if status == awaited:
                    return
                if status in ends and not await _has_later_transition(orders, order_id, change):
                    if awaited:
                        fail(f"The order is {status} ({change.reason}), and not {awaited}.", FAILED)
                    return

    run(settings().order_address, work, timeout_s=timeout)


@app.command(epilog=EXIT_CODES)
def cancel(
    order: OrderArgument,
    reason: Reason = None,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Cancels an order of which nothing was delivered. The services release its stock, refund its
    payment and recall its parcels.
    """
    request = order_service_pb2.CancelOrderRequest(reason=reason, note=note)
    _change(order, request, request_id, json=json, timeout_s=timeout)


@app.command(epilog=EXIT_CODES)
def undo(
    order: Annotated[str, typer.Argument(parser=arguments.uuid, metavar="ORDER", help="Its id.")],
    timeout: Timeout = 15.0,
) -> None:
    """Undoes the services' work for an order that the order service lost when its database was
    restored.

    It cancels fulfilments, recalls parcels, refunds payments and releases stock. It refuses an
    order that exists: cancel that one. A repeat does nothing twice. The exit code is 1 if a service
    refuses a step.
    """
    addresses = settings().addresses
    try:
        refused = asyncio.run(_undo(addresses, order, timeout))
    except Failure as failure:
        fail(str(failure), exit_code(failure))
    if refused:
        raise typer.Exit(FAILED)


async def _undo(addresses: Mapping[str, str], order_id: str, timeout_s: float) -> bool:
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(connected(address))
            for name, address in addresses.items()
        }
        undo = Undo(channels, order_id, timeout_s)
        if await undo.exists():
            fail(f"The order exists. Next: `omctl order cancel {order_id}`.", FAILED)
        async for step in undo.steps():
            typer.echo(output.printable(step))
        return undo.refused


@app.command("cancel-items", epilog=EXIT_CODES)
def cancel_items(
    order: OrderArgument,
    item: Annotated[
        list[str],
        typer.Option(
            metavar="LINE:QUANTITY",
            help="A line and the units of it to cancel, e.g. 2:1. Repeatable.",
        ),
    ],
    reason: Reason = None,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Cancels units that are not with a carrier yet, all lines or none. Cancelling the last unit
    cancels the order.
    """
    lines = [arguments.cancelled_line(each) for each in item]
    request = order_service_pb2.CancelOrderItemsRequest(lines=lines, reason=reason, note=note)
    _change(order, request, request_id, json=json, timeout_s=timeout)


@app.command(epilog=EXIT_CODES)
def retry(
    order: OrderArgument,
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Retries a failed order: reserves its stock again; the order is pending until it is paid."""
    request = order_service_pb2.RetryOrderRequest(note=note)
    _change(order, request, request_id, json=json, timeout_s=timeout)


def _change(
    order: str, request: Any, request_id: str | None, *, json: bool, timeout_s: float
) -> None:
    """Finds the order, sends a request that changes it, and shows the order afterwards."""

    async def work(channel: Channel) -> order_pb2.Order:
        request.order_id = (await _find(channel, order, timeout_s)).order_id
        request.request_id = print_request_id(request_id)
        answer = await sending(OrderServiceStub, request, timeout_s)(channel)
        changed: order_pb2.Order = answer.order
        return changed

    _show(run(settings().order_address, work), json=json)


async def _find(channel: Channel, which: str, timeout_s: float) -> order_pb2.Order:
    """Returns the order with this id or number. Raises NotFound."""
    orders = OrderServiceStub(channel)
    try:
        order_id = str(UUID(which))
    except ValueError:
        return await _find_by_number(orders, which.upper(), timeout_s)
    by_id = order_service_pb2.GetOrderRequest(order_id=order_id)
    return (await ask(orders.GetOrder, by_id, timeout_s=timeout_s)).order


async def _find_by_number(
    orders: "OrderServiceAsyncStub", number: str, timeout_s: float
) -> order_pb2.Order:
    by_number = order_service_pb2.ListOrdersRequest(order_number=number, page_size=1)
    found = (await ask(orders.ListOrders, by_number, timeout_s=timeout_s)).orders
    if not found:
        raise NotFound("ORDER_NOT_FOUND", f"there is no order {number}", order_number=number)
    return found[0]


async def _has_later_transition(
    orders: "OrderServiceAsyncStub", order_id: str, change: order_pb2.OrderTransition
) -> bool:
    """Returns whether the order has a later transition than this one, which the watch replays."""
    now = (await ask(orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order_id))).order
    return now.version > change.order_version


def _show(order: order_pb2.Order, *, json: bool) -> None:
    if json:
        output.document(order)
        return
    screen = Console(highlight=False)
    for fact in views.facts(order):
        typer.echo(output.printable(fact))
    typer.echo()
    output.show(views.items(order), screen)
    if order.fulfillments:
        typer.echo()
        output.show(views.parcels(order), screen)


def _print_transition(change: order_pb2.OrderTransition, *, json: bool) -> None:
    if json:
        output.line(change)
    else:
        typer.echo(output.printable(views.transition(change)))
