"""Every unit: the ledger against the balances, the balances against the reservations, the reservations against the orders. Pure."""

from collections import Counter
from datetime import timedelta
from shlex import quote

from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.audit.difference import ARRIVED, AT_WORK, DEAD, Difference, Differences, older, republish, units
from omctl.audit.facts import Facts

LOST, DELIVERED = shipping_pb2.SHIPMENT_STATUS_LOST, shipping_pb2.SHIPMENT_STATUS_DELIVERED
BALANCES = ("available", "reserved", "committed", "damaged")


def ledger(facts: Facts) -> Differences:
    """Each balance is the sum of its movements, and what is here and what is outside sum to zero."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for movement in facts.movements:
        changes = {name: getattr(movement, f"{name}_delta") for name in (*BALANCES, "outside")}
        sums.setdefault((movement.warehouse_id, movement.sku), Counter()).update(changes)
    for level in facts.levels:
        booked = sums.pop((level.warehouse_id, level.sku), Counter())
        subject = f"stock {level.warehouse_id}/{level.sku}"
        repair = _shown(level)
        for name in BALANCES:
            if booked[name] != getattr(level, name):
                yield Difference("stock.ledger", subject, f"{name} is {getattr(level, name)}, its movements say {booked[name]}", repair)
        if gap := booked["available"] + booked["committed"] + booked["damaged"] + booked["outside"]:
            yield Difference("stock.conservation", subject, f"movements make or lose {gap} units", repair)
        if min(level.available, level.reserved, level.committed, level.damaged, level.available - level.reserved) < 0:
            yield Difference("stock.negative", subject, "a balance is below zero, or more is reserved than there is", repair)
    for warehouse_id, sku in sums:
        yield Difference("stock.ledger", f"stock {warehouse_id}/{sku}", "has movements and no balance", "omctl stock list")


def promises(facts: Facts) -> Differences:
    """What a stock level counts as reserved and committed is what its reservations hold."""
    held: dict[tuple[str, str], Counter[str]] = {}
    for reservation in facts.reservations:
        for line in reservation.lines:
            place = held.setdefault((reservation.warehouse_id, line.sku), Counter())
            place.update(reserved=line.reserved, committed=line.committed)
    for level in facts.levels:
        promised = held.get((level.warehouse_id, level.sku), Counter())
        for name in ("reserved", "committed"):
            if promised[name] != getattr(level, name):
                text = f"{name} is {getattr(level, name)}, its reservations hold {promised[name]}"
                yield Difference("stock.reservations", f"stock {level.warehouse_id}/{level.sku}", text, _shown(level))


def held(facts: Facts, patience: timedelta) -> Differences:
    """Units are held for orders that need them, and for nobody else."""
    for reservation in facts.reservations:
        units_held = sum(line.reserved + line.committed for line in reservation.lines)
        if not units_held:
            continue
        order = facts.orders.get(reservation.order_id)
        subject = f"reservation {reservation.reservation_id} of order {reservation.order_id}"
        if order is None:
            if older(reservation.expire_time, facts.time, patience):
                yield Difference("reservation.order", subject, f"{units_held} units for an order that there is not", "omctl stock list")
        elif order.status in DEAD | ARRIVED or order.attempt != reservation.attempt:
            status = order_pb2.OrderStatus.Name(order.status)
            text = f"{units_held} units for attempt {reservation.attempt}; the order is {status} at attempt {order.attempt}"
            yield Difference(
                "reservation.dead", subject, text, republish("fulfillment", _work_of(facts, reservation) or reservation.order_id)
            )


def allocations(facts: Facts) -> Differences:
    """What an order counts on is what the warehouse holds or has shipped for it; and no unit of an order is forgotten."""
    there: dict[tuple[str, int, int, str], Counter[str]] = {}
    for reservation in facts.reservations:
        for line in reservation.lines:
            key = (reservation.order_id, reservation.attempt, line.line_number, reservation.warehouse_id)
            there.setdefault(key, Counter()).update(reserved=line.reserved, committed=line.committed, shipped=line.shipped)
    for order in facts.orders.values():
        subject = f"order {order.order_id}"
        for item in order.items:
            live, name = units(item), f"line {item.line_number}"
            if order.status not in DEAD and live + item.cancelled_quantity != item.quantity:
                text = f"{name}: {item.quantity} ordered, {live} stay and {item.cancelled_quantity} are cancelled"
                yield Difference("order.units", subject, text, f"omctl order get {order.order_id}")
            for place in item.allocations:
                held = there.get((order.order_id, order.attempt, item.line_number, place.warehouse_id), Counter())
                if fault := _unheld(order, place.quantity, held):
                    text = f"{name}: {place.quantity} units from {place.warehouse_id}, {fault}"
                    yield Difference("order.stock", subject, text, republish("warehouse", order.order_id))


def returned(facts: Facts) -> Differences:
    """Each unit that came back and was inspected is booked, once, and none that never left."""
    booked: Counter[tuple[str, int, int]] = Counter()
    shipped: Counter[tuple[str, int]] = Counter()
    back: Counter[tuple[str, int]] = Counter()
    restock, damaged = warehouse_pb2.STOCK_MOVEMENT_KIND_RESTOCK, warehouse_pb2.STOCK_MOVEMENT_KIND_MARK_DAMAGED
    for movement in facts.movements:
        line = (movement.order_id, movement.line_number)
        if movement.kind in (restock, damaged):
            booked[movement.source_id, movement.line_number, movement.kind] += movement.quantity
            back[line] += movement.quantity
        elif movement.kind == warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP:
            shipped[line] += movement.quantity
    for each in facts.returns:
        for its in each.lines:
            for kind, told, what in ((restock, its.passed_quantity, "passed"), (damaged, its.failed_quantity, "failed")):
                if (found := booked.pop((each.return_id, its.line_number, kind), 0)) != told:
                    subject = f"return {each.return_id} of order {each.order_id}"
                    text = f"line {its.line_number}: {told} units {what}, {found} booked"
                    yield Difference("return.stock", subject, text, republish("order", each.return_id))
    for (source, number, _), quantity in booked.items():
        yield Difference("return.stock", f"return {source}", f"line {number}: {quantity} units booked for no return", "omctl stock list")
    for (order_id, number), quantity in back.items():
        if quantity > shipped[order_id, number]:
            text = f"line {number}: {quantity} units came back, {shipped[order_id, number]} were shipped"
            yield Difference("return.shipped", f"order {order_id}", text, f"omctl order get {order_id}")


def recalled(facts: Facts) -> Differences:
    """Goods that left, and that nobody wants any more, are to come back: all of a dead order's, and those that were cut too late.

    Of parcels that were lost, or that came to their customers all the same, nothing is waited for.
    """
    gone: dict[str, Counter[tuple[int, str]]] = {}
    for movement in facts.movements:
        if movement.kind == warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP:
            gone.setdefault(movement.order_id, Counter())[movement.line_number, movement.warehouse_id] += movement.quantity
    for order_id, shipped in gone.items():
        order = facts.orders.get(order_id)
        if order is None:
            continue
        dead = order.status in DEAD
        over = {s.warehouse_id for s in facts.shipments_of.get(order_id, ()) if s.status in (LOST, DELIVERED if dead else LOST)}
        wanted = {(item.line_number, a.warehouse_id): a.quantity for item in order.items for a in item.allocations if not dead}
        announced: Counter[int] = Counter()
        for each in facts.returns_of.get(order_id, ()):
            if each.kind == return_pb2.RETURN_KIND_RECALL:
                announced.update({line.line_number: line.announced_quantity for line in each.lines})
        back: Counter[int] = Counter()
        for (number, warehouse_id), units_gone in shipped.items():
            if warehouse_id not in over:
                back[number] += max(0, units_gone - wanted.get((number, warehouse_id), 0))
        for number, units_wanted_back in back.items():
            if units_wanted_back > announced[number]:
                text = f"line {number}: {units_wanted_back} units left that nobody wants, {announced[number]} are recalled"
                yield Difference("return.recall", f"order {order_id}", text, f"omctl order get {order_id}")


def _shown(level: warehouse_pb2.StockLevel) -> str:
    """The command that shows a stock level. It is pasted into a shell, and the names of warehouses and SKUs may hold anything."""
    return f"omctl stock list --warehouse {quote(level.warehouse_id)} --sku {quote(level.sku)}"


def _unheld(order: order_pb2.Order, wanted: int, held: Counter[str]) -> str:
    """Why the warehouse does not stand for these units as the order thinks; empty where it does."""
    if order.status == order_pb2.ORDER_STATUS_PENDING:
        # What was reserved may have been committed already: the payment is on its way then.
        return "" if held["reserved"] + held["committed"] == wanted else f"{held['reserved']} reserved"
    if order.status in AT_WORK | ARRIVED and order.stock_status != order_pb2.STOCK_STATUS_OWED:
        # More may have left than the order wants: a cut that came too late. That they come back is another check's.
        still_here = max(wanted - held["shipped"], 0)
        return "" if held["committed"] == still_here else f"{held['committed']} committed and {held['shipped']} shipped"
    return ""


def _work_of(facts: Facts, reservation: warehouse_pb2.Reservation) -> str | None:
    """The fulfilment whose word would free the reservation."""
    works = facts.fulfillments_of.get(reservation.order_id, ())
    return next((w.fulfillment_id for w in works if (w.warehouse_id, w.attempt) == (reservation.warehouse_id, reservation.attempt)), None)
