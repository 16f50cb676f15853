"""What is done to shelves: goods arrive, a count corrects the books."""

from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Stale
from warehouse_svc.decisions.books import Books, Decided
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model import AdjustStock, ReceiveStock, View


def receive(view: View, command: ReceiveStock, context: Context) -> Decided:
    """All lines or none, once for each request. A SKU is in a warehouse from its first receipt
    on.
    """
    if booked(view, context.target, MovementKind.RECEIVE):
        return Decision(view)
    books = Books(view, command, context)
    for sku, quantity in command.quantities.items():
        books.move((command.warehouse_id, sku), MovementKind.RECEIVE, quantity, context.target)
    return books.decision()


def adjust(view: View, command: AdjustStock, context: Context) -> Decided:
    """A count: never below what is reserved, once for each request."""
    if booked(view, context.target, MovementKind.ADJUST):
        return Decision(view)
    place = (command.warehouse_id, command.sku)
    level = view.stock.get(place)
    if level is None:
        text = f"{command.warehouse_id} has never had {command.sku}."
        raise NotFound(
            "STOCK_LEVEL_NOT_FOUND", text, sku=command.sku, warehouse_id=command.warehouse_id
        )
    if command.expected_version not in (None, level.version):
        raise Stale(expected=str(command.expected_version), actual=str(level.version))
    books = Books(view, command, context)
    books.move(place, MovementKind.ADJUST, command.delta, context.target)
    return books.decision()


def booked(view: View, request: UUID, kind: MovementKind) -> bool:
    """Whether the ledger has rows of that request; a receipt and a count may have one id, for it
    belongs to the method.
    """
    return any(of_kind is kind for _, _, of_kind in view.booked.get(request, {}))
