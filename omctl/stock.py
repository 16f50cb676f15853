"""`omctl stock ...`"""

from typing import Annotated

import typer
from ordermesh.warehouse.v1 import inventory_service_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub

from omctl import arguments, output, views
from omctl.calls import print_list, run, sending, settings
from omctl.errors import EXIT_CODES
from omctl.options import Json, Note, RequestId, Timeout, print_request_id

PAGE = 1_000

app = typer.Typer(
    no_args_is_help=True,
    help="Receive goods, correct stock levels after a count, and list them.",
    epilog=EXIT_CODES,
)


@app.command(epilog=EXIT_CODES)
def receive(
    warehouse: Annotated[str, typer.Argument(help="The warehouse, e.g. london-1.")],
    item: Annotated[
        list[str],
        typer.Option(metavar="SKU:QUANTITY", help="The goods, e.g. TEAPOT:100. Repeatable."),
    ],
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Posts goods that arrived, all lines or none.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id posts nothing twice.
    """
    lines = [arguments.stock_item(each) for each in item]
    request = inventory_service_pb2.ReceiveStockRequest(
        request_id=print_request_id(request_id), warehouse_id=warehouse, lines=lines, note=note
    )
    answer = run(settings().warehouse_address, sending(InventoryServiceStub, request, timeout))
    output.answer(answer, views.stock(answer.stock_levels), json=json)


@app.command(epilog=EXIT_CODES)
def adjust(
    warehouse: Annotated[str, typer.Argument(help="The warehouse, e.g. london-1.")],
    sku: Annotated[str, typer.Argument(help="The SKU, e.g. TEAPOT.")],
    delta: Annotated[
        int,
        typer.Option(help="The counted units minus AVAILABLE; negative if units are missing."),
    ],
    note: Note = None,
    request_id: RequestId = None,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Corrects the available units of a stock level after a count.

    The command prints the request_id on stderr before it sends the request. The same command with
    --request-id changes nothing twice.
    """
    request = inventory_service_pb2.AdjustStockRequest(
        request_id=print_request_id(request_id),
        warehouse_id=warehouse,
        sku=sku,
        delta=delta,
        note=note,
    )
    answer = run(settings().warehouse_address, sending(InventoryServiceStub, request, timeout))
    output.answer(answer, views.stock([answer.stock_level]), json=json)


@app.command("list", epilog=EXIT_CODES)
def list_(
    warehouse: Annotated[str | None, typer.Option(help="Only there.")] = None,
    sku: Annotated[list[str] | None, typer.Option(help="Only this. Repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many lines; 0: all.")] = 0,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> None:
    """Lists the stock levels, by warehouse and SKU."""
    print_list(
        settings().warehouse_address,
        InventoryServiceStub,
        inventory_service_pb2.ListStockLevelsRequest(warehouse_id=warehouse, skus=sku or []),
        "stock_levels",
        views.stock,
        page_size=PAGE,
        limit=limit,
        json=json,
        timeout_s=timeout,
    )
