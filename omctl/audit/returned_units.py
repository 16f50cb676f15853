"""Checks of every unit that comes back: returns and recalls against movements. Pure."""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from shlex import quote

from ordermesh.order.v1 import return_pb2
from ordermesh.shipping.v1 import shipping_pb2

from omctl.audit.difference import (
    CANCELLED_OR_FAILED,
    Difference,
    Differences,
    check,
    republish,
)
from omctl.audit.facts import Facts
from omctl.audit.stock import MARK_DAMAGED, RESTOCK, SHIP

LOST, DELIVERED = shipping_pb2.SHIPMENT_STATUS_LOST, shipping_pb2.SHIPMENT_STATUS_DELIVERED


@check("returns", "movements", rules=("return.stock", "return.unknown"))
def returned(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Each returned unit that was inspected is posted once."""
    posted: Counter[tuple[str, int, int]] = Counter()
    for movement in facts.movements:
        if movement.kind in (RESTOCK, MARK_DAMAGED):
            posted[movement.source_id, movement.line_number, movement.kind] += movement.quantity
    for each in facts.returns:
        for line in each.lines:
            for kind, inspected, what in (
                (RESTOCK, line.passed_quantity, "passed"),
                (MARK_DAMAGED, line.failed_quantity, "failed"),
            ):
                if (found := posted.pop((each.return_id, line.line_number, kind), 0)) != inspected:
                    subject = f"return {each.return_id} of order {each.order_id}"
                    text = f"line {line.line_number}: {inspected} units {what}, {found} posted"
                    yield Difference(
                        check="return.stock",
                        subject=subject,
                        text=text,
                        repair=republish("order", each.return_id),
                    )
    yield from _of_no_return(facts, {source for source, _, _ in posted})


def _of_no_return(facts: Facts, sources: Collection[str]) -> Differences:
    """Returns units that RestockItem or MarkDamaged posted under a source_id that is no return's.

    The warehouse cannot check a source_id: it does not store returns.
    """
    verbs = {RESTOCK: "restocked", MARK_DAMAGED: "marked damaged"}
    for movement in facts.movements:
        if movement.source_id in sources and movement.kind in verbs:
            place = f"line {movement.line_number}, {movement.sku} in {movement.warehouse_id}"
            what = f"{movement.quantity} units {verbs[movement.kind]} for {movement.source_id}"
            at = f"--warehouse {quote(movement.warehouse_id)} --sku {quote(movement.sku)}"
            yield Difference(
                check="return.unknown",
                subject=f"order {movement.order_id}",
                text=f"{place}: {what}, which is not a return of this order",
                repair=f"omctl stock list {at}",
            )


@check("movements", rules=("return.shipped",))
def returned_and_shipped(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No more units of a line came back than were shipped."""
    shipped: Counter[tuple[str, int]] = Counter()
    back: Counter[tuple[str, int]] = Counter()
    for movement in facts.movements:
        line = (movement.order_id, movement.line_number)
        if movement.kind in (RESTOCK, MARK_DAMAGED):
            back[line] += movement.quantity
        elif movement.kind == SHIP:
            shipped[line] += movement.quantity
    for (order_id, number), quantity in back.items():
        if quantity > shipped[order_id, number]:
            text = (
                f"line {number}: {quantity} units came back, {shipped[order_id, number]} were"
                " shipped"
            )
            yield Difference(
                check="return.shipped",
                subject=f"order {order_id}",
                text=text,
                repair=f"omctl order get {order_id}",
            )


@check("orders", "returns", "movements", "shipments", rules=("return.recall",))
def recalled(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Shipped units that no order needs are recalled: all units of a cancelled or failed order, and
    units that were cut too late.

    No recall is expected of lost parcels, or of a cancelled order's delivered parcels.
    """
    shipped_of: dict[str, Counter[tuple[int, str]]] = {}
    for movement in facts.movements:
        if movement.kind == SHIP:
            shipped_of.setdefault(movement.order_id, Counter())[
                movement.line_number, movement.warehouse_id
            ] += movement.quantity
    for order_id, shipped in shipped_of.items():
        order = facts.orders.get(order_id)
        if order is None:
            continue
        ended = order.status in CANCELLED_OR_FAILED
        over = {
            s.warehouse_id
            for s in facts.shipments_of.get(order_id, ())
            if s.status in (LOST, DELIVERED if ended else LOST)
        }
        wanted = {
            (item.line_number, a.warehouse_id): a.quantity
            for item in order.items
            for a in item.allocations
            if not ended
        }
        announced = _announced_recalls(facts, order_id)
        back: Counter[int] = Counter()
        for (number, warehouse_id), units_shipped in shipped.items():
            if warehouse_id not in over:
                back[number] += max(0, units_shipped - wanted.get((number, warehouse_id), 0))
        for number, units_wanted_back in back.items():
            if units_wanted_back > announced[number]:
                text = (
                    f"line {number}: {units_wanted_back} shipped units are no longer ordered,"
                    f" {announced[number]} are recalled"
                )
                yield Difference(
                    check="return.recall",
                    subject=f"order {order_id}",
                    text=text,
                    repair=f"omctl order get {order_id}",
                )


def _announced_recalls(facts: Facts, order_id: str) -> Counter[int]:
    """Returns the units that recalls of the order have announced, by line number."""
    announced: Counter[int] = Counter()
    for each in facts.returns_of.get(order_id, ()):
        if each.kind == return_pb2.RETURN_KIND_RECALL:
            announced.update({line.line_number: line.announced_quantity for line in each.lines})
    return announced
