"""Changes of stock levels: goods arrive, a count corrects the ledger."""

from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Stale
from warehouse_svc.decisions.posting import Decided, StockPosting
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.commands import AdjustStock, ReceiveStock
from warehouse_svc.model.records import OrderStock


def receive(record: OrderStock, command: ReceiveStock, context: Context) -> Decided:
    """Posts all lines or none, once for each request.

    The first receipt of a SKU in a warehouse creates its stock level.
    """
    if already_posted(record, context.target, MovementKind.RECEIVE):
        return Decision(record)
    posting = StockPosting(record, command, context)
    for sku, quantity in command.quantities.items():
        posting.move((command.warehouse_id, sku), MovementKind.RECEIVE, quantity, context.target)
    return posting.decision()


def adjust(record: OrderStock, command: AdjustStock, context: Context) -> Decided:
    """Posts a count, once for each request.

    Raises Refused STOCK_BELOW_RESERVED where fewer units than the reserved ones would remain.
    """
    if already_posted(record, context.target, MovementKind.ADJUST):
        return Decision(record)
    place = (command.warehouse_id, command.sku)
    level = record.levels.get(place)
    if level is None:
        text = f"{command.warehouse_id} has never had {command.sku}."
        raise NotFound(
            "STOCK_LEVEL_NOT_FOUND", text, sku=command.sku, warehouse_id=command.warehouse_id
        )
    if command.expected_version not in (None, level.version):
        raise Stale(expected=str(command.expected_version), actual=str(level.version))
    posting = StockPosting(record, command, context)
    posting.move(place, MovementKind.ADJUST, command.delta, context.target)
    return posting.decision()


def already_posted(record: OrderStock, request: UUID, kind: MovementKind) -> bool:
    """Returns whether the ledger has rows of that request and kind.

    A receipt and a count may have the same request_id: it is unique for each method.
    """
    return any(of_kind is kind for _, _, of_kind in record.posted.get(request, {}))
