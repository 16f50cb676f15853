"""Every unit: the ledger against the balances, the balances against the reservations, the
reservations against the orders. Pure.
"""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from shlex import quote
from uuid import NAMESPACE_URL, uuid5

from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.audit.difference import (
    ARRIVED,
    AT_WORK,
    DEAD,
    Difference,
    Differences,
    check,
    older,
    republish,
    undo,
    units,
)
from omctl.audit.facts import Facts

LOST, DELIVERED = shipping_pb2.SHIPMENT_STATUS_LOST, shipping_pb2.SHIPMENT_STATUS_DELIVERED
RESTOCK, MARK_DAMAGED = (
    warehouse_pb2.STOCK_MOVEMENT_KIND_RESTOCK,
    warehouse_pb2.STOCK_MOVEMENT_KIND_MARK_DAMAGED,
)
SHIP = warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP
ADJUST = warehouse_pb2.STOCK_MOVEMENT_KIND_ADJUST
BALANCES = ("available", "reserved", "committed", "damaged")


@check("levels", "movements", rules=("stock.ledger", "stock.conservation", "stock.negative"))
def ledger(facts: Facts, _patience: timedelta) -> Differences:
    """Each balance is the sum of its movements, and what is here and what is outside sum to
    zero.
    """
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
                yield Difference(
                    check="stock.ledger",
                    subject=subject,
                    text=f"{name} is {getattr(level, name)}, its movements say {booked[name]}",
                    repair=repair,
                )
        if gap := booked["available"] + booked["committed"] + booked["damaged"] + booked["outside"]:
            yield Difference(
                check="stock.conservation",
                subject=subject,
                text=f"movements make or lose {gap} units",
                repair=repair,
            )
        if (
            min(
                level.available,
                level.reserved,
                level.committed,
                level.damaged,
                level.available - level.reserved,
            )
            < 0
        ):
            yield Difference(
                check="stock.negative",
                subject=subject,
                text="a balance is below zero, or more is reserved than there is",
                repair=repair,
            )
    for warehouse_id, sku in sums:
        yield Difference(
            check="stock.ledger",
            subject=f"stock {warehouse_id}/{sku}",
            text="has movements and no balance",
            repair="omctl stock list",
        )


@check("levels", "reservations", rules=("stock.reservations",))
def promises(facts: Facts, _patience: timedelta) -> Differences:
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
                yield Difference(
                    check="stock.reservations",
                    subject=f"stock {level.warehouse_id}/{level.sku}",
                    text=text,
                    repair=_shown(level),
                )


@check(
    "orders",
    "reservations",
    "fulfillments",
    "movements",
    rules=("reservation.order",),
)
def held_for_no_order(facts: Facts, patience: timedelta) -> Differences:
    """Units are held for orders that there are.

    Committed units come back by an event of their fulfilment alone. Where there is none, no call
    takes the commit back: a person makes the units available by a count.
    """
    counted = {movement.source_id for movement in facts.movements if movement.kind == ADJUST}
    for reservation in facts.reservations:
        # Only an active reservation expires.
        expires = reservation.HasField("expire_time")
        since = reservation.expire_time if expires else reservation.update_time
        if reservation.order_id in facts.orders or not older(since, facts.time, patience):
            continue
        has_work = _work_of(facts, reservation) is not None
        undone = (
            _held(reservation) if has_work else sum(line.reserved for line in reservation.lines)
        )
        if undone:
            text = f"{undone} units for an order that there is not"
            repair = undo(reservation.order_id)
            yield Difference(
                check="reservation.order", subject=_subject(reservation), text=text, repair=repair
            )
        if not has_work:
            yield from _uncounted(reservation, counted)


def _uncounted(reservation: warehouse_pb2.Reservation, counted: Collection[str]) -> Differences:
    """The committed lines of a reservation without a fulfilment that no count has made available.

    The count's request_id is made of the reservation and the line: so a second count under it
    changes nothing, and the ledger says that it was made.
    """
    for line in reservation.lines:
        name = f"reservation:{reservation.reservation_id}:{line.line_number}"
        request_id = str(uuid5(NAMESPACE_URL, name))
        if not line.committed or request_id in counted:
            continue
        place = f"{quote(reservation.warehouse_id)} {quote(line.sku)}"
        text = (
            f"line {line.line_number}: {line.committed} units of {line.sku} are committed in"
            f" {reservation.warehouse_id} for an order that there is not, and no fulfilment works"
            " on them. No call takes the commit back: see that they are there, then make them"
            " available"
        )
        repair = f"omctl stock adjust {place} --delta {line.committed} --request-id {request_id}"
        yield Difference(
            check="reservation.order", subject=_subject(reservation), text=text, repair=repair
        )


@check("orders", "reservations", "fulfillments", rules=("reservation.dead",))
def held_for_the_dead(facts: Facts, _patience: timedelta) -> Differences:
    """No units are held for an order that has ended, nor for an attempt that has."""
    for reservation in facts.reservations:
        if _withdrawn(facts, reservation.order_id, reservation.attempt, reservation.warehouse_id):
            continue  # until shipping has said whether they leave
        order, units_held = facts.orders.get(reservation.order_id), _held(reservation)
        if (
            order
            and units_held
            and (order.status in DEAD | ARRIVED or order.attempt != reservation.attempt)
        ):
            status = order_pb2.OrderStatus.Name(order.status)
            text = (
                f"{units_held} units for attempt {reservation.attempt}; the order is {status} at"
                f" attempt {order.attempt}"
            )
            repair = republish("fulfillment", _work_of(facts, reservation) or reservation.order_id)
            yield Difference(
                check="reservation.dead", subject=_subject(reservation), text=text, repair=repair
            )


@check("orders", rules=("order.units",))
def lines(facts: Facts, _patience: timedelta) -> Differences:
    """No unit of an order is forgotten: each stays, or is cancelled."""
    for order in facts.orders.values():
        for item in order.items:
            live = units(item)
            if order.status not in DEAD and live + item.cancelled_quantity != item.quantity:
                text = (
                    f"line {item.line_number}: {item.quantity} ordered, {live} stay and"
                    f" {item.cancelled_quantity} are cancelled"
                )
                yield Difference(
                    check="order.units",
                    subject=f"order {order.order_id}",
                    text=text,
                    repair=f"omctl order get {order.order_id}",
                )


@check("orders", "reservations", "fulfillments", rules=("order.stock",))
def allocations(facts: Facts, _patience: timedelta) -> Differences:
    """What an order counts on is what the warehouse holds or has shipped for it."""
    there: dict[tuple[str, int, int, str], Counter[str]] = {}
    for reservation in facts.reservations:
        for line in reservation.lines:
            key = (
                reservation.order_id,
                reservation.attempt,
                line.line_number,
                reservation.warehouse_id,
            )
            there.setdefault(key, Counter()).update(
                reserved=line.reserved, committed=line.committed, shipped=line.shipped
            )
    for order in facts.orders.values():
        for item in order.items:
            for place in item.allocations:
                held = there.get(
                    (order.order_id, order.attempt, item.line_number, place.warehouse_id), Counter()
                )
                if _withdrawn(facts, order.order_id, order.attempt, place.warehouse_id):
                    continue  # cut units are committed until shipping has said whether they leave
                if fault := _unheld(order, place.quantity, held):
                    text = (
                        f"line {item.line_number}: {place.quantity} units from"
                        f" {place.warehouse_id}, {fault}"
                    )
                    repair = republish("warehouse", order.order_id)
                    yield Difference(
                        check="order.stock",
                        subject=f"order {order.order_id}",
                        text=text,
                        repair=repair,
                    )


@check("returns", "movements", rules=("return.stock", "return.unknown"))
def returned(facts: Facts, _patience: timedelta) -> Differences:
    """Each unit that came back and was inspected is booked, once."""
    booked: Counter[tuple[str, int, int]] = Counter()
    for movement in facts.movements:
        if movement.kind in (RESTOCK, MARK_DAMAGED):
            booked[movement.source_id, movement.line_number, movement.kind] += movement.quantity
    for each in facts.returns:
        for its in each.lines:
            for kind, told, what in (
                (RESTOCK, its.passed_quantity, "passed"),
                (MARK_DAMAGED, its.failed_quantity, "failed"),
            ):
                if (found := booked.pop((each.return_id, its.line_number, kind), 0)) != told:
                    subject = f"return {each.return_id} of order {each.order_id}"
                    text = f"line {its.line_number}: {told} units {what}, {found} booked"
                    yield Difference(
                        check="return.stock",
                        subject=subject,
                        text=text,
                        repair=republish("order", each.return_id),
                    )
    yield from _of_no_return(facts, {source for source, _, _ in booked})


def _of_no_return(facts: Facts, sources: Collection[str]) -> Differences:
    """Units that RestockItem or MarkDamaged has booked under a source_id that names no return: the
    warehouse cannot know.
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
                text=f"{place}: {what}, which is no return of this order",
                repair=f"omctl stock list {at}",
            )


@check("movements", rules=("return.shipped",))
def came_back(facts: Facts, _patience: timedelta) -> Differences:
    """No unit came back that never left."""
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
def recalled(facts: Facts, _patience: timedelta) -> Differences:
    """Goods that left, and that nobody wants any more, are to come back: all of a dead order's, and
    those that were cut too late.

    Of parcels that were lost, or that came to their customers all the same, nothing is waited for.
    """
    gone: dict[str, Counter[tuple[int, str]]] = {}
    for movement in facts.movements:
        if movement.kind == SHIP:
            gone.setdefault(movement.order_id, Counter())[
                movement.line_number, movement.warehouse_id
            ] += movement.quantity
    for order_id, shipped in gone.items():
        order = facts.orders.get(order_id)
        if order is None:
            continue
        dead = order.status in DEAD
        over = {
            s.warehouse_id
            for s in facts.shipments_of.get(order_id, ())
            if s.status in (LOST, DELIVERED if dead else LOST)
        }
        wanted = {
            (item.line_number, a.warehouse_id): a.quantity
            for item in order.items
            for a in item.allocations
            if not dead
        }
        announced = _announced_recalls(facts, order_id)
        back: Counter[int] = Counter()
        for (number, warehouse_id), units_gone in shipped.items():
            if warehouse_id not in over:
                back[number] += max(0, units_gone - wanted.get((number, warehouse_id), 0))
        for number, units_wanted_back in back.items():
            if units_wanted_back > announced[number]:
                text = (
                    f"line {number}: {units_wanted_back} units left that nobody wants,"
                    f" {announced[number]} are recalled"
                )
                yield Difference(
                    check="return.recall",
                    subject=f"order {order_id}",
                    text=text,
                    repair=f"omctl order get {order_id}",
                )


def _shown(level: warehouse_pb2.StockLevel) -> str:
    """The command that shows a stock level. It is pasted into a shell, and the names of
    warehouses and SKUs may hold anything.
    """
    return f"omctl stock list --warehouse {quote(level.warehouse_id)} --sku {quote(level.sku)}"


def _subject(reservation: warehouse_pb2.Reservation) -> str:
    return f"reservation {reservation.reservation_id} of order {reservation.order_id}"


def _held(reservation: warehouse_pb2.Reservation) -> int:
    """The units that the reservation keeps from others."""
    return sum(line.reserved + line.committed for line in reservation.lines)


def _unheld(order: order_pb2.Order, wanted: int, held: Counter[str]) -> str:
    """Why the warehouse does not stand for these units as the order thinks; empty where it does."""
    if order.status == order_pb2.ORDER_STATUS_PENDING:
        # What was reserved may have been committed already: the payment is on its way then.
        return (
            "" if held["reserved"] + held["committed"] == wanted else f"{held['reserved']} reserved"
        )
    pending = order.stock_status == order_pb2.STOCK_STATUS_COMMIT_PENDING
    if order.status in AT_WORK | ARRIVED and not pending:
        # More may have left than the order wants: a cut that came too late. That they come back is
        # another check's.
        still_here = max(wanted - held["shipped"], 0)
        return (
            ""
            if held["committed"] == still_here
            else f"{held['committed']} committed and {held['shipped']} shipped"
        )
    return ""


def _withdrawn(facts: Facts, order_id: str, attempt: int, warehouse_id: str) -> bool:
    """Whether the warehouse's work for the attempt is wanted back from its way out, and all its
    units stay committed meanwhile.
    """
    works = facts.fulfillments_of.get(order_id, ())
    return any(
        w.HasField("withdraw_reason")
        for w in works
        if (w.warehouse_id, w.attempt) == (warehouse_id, attempt)
    )


def _work_of(facts: Facts, reservation: warehouse_pb2.Reservation) -> str | None:
    """The fulfilment whose word would free the reservation."""
    works = facts.fulfillments_of.get(reservation.order_id, ())
    return next(
        (
            w.fulfillment_id
            for w in works
            if (w.warehouse_id, w.attempt) == (reservation.warehouse_id, reservation.attempt)
        ),
        None,
    )


def _announced_recalls(facts: Facts, order_id: str) -> Counter[int]:
    """Units that recalls of the order have announced, by line number."""
    announced: Counter[int] = Counter()
    for each in facts.returns_of.get(order_id, ()):
        if each.kind == return_pb2.RETURN_KIND_RECALL:
            announced.update({line.line_number: line.announced_quantity for line in each.lines})
    return announced
