"""Checks of every unit: ledger against balances, balances against reservations, and reservations
against orders. Pure.
"""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from shlex import quote
from uuid import NAMESPACE_URL, uuid5

from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.audit.difference import (
    ARRIVED,
    AT_WORK,
    CANCELLED_OR_FAILED,
    Difference,
    Differences,
    check,
    older,
    republish,
    undo,
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
def ledger(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Each balance is the sum of its movements, and all movements together sum to zero."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for movement in facts.movements:
        changes = {name: getattr(movement, f"{name}_delta") for name in (*BALANCES, "outside")}
        sums.setdefault((movement.warehouse_id, movement.sku), Counter()).update(changes)
    for level in facts.levels:
        posted = sums.pop((level.warehouse_id, level.sku), Counter())
        subject = f"stock {level.warehouse_id}/{level.sku}"
        repair = _shown(level)
        for name in BALANCES:
            if posted[name] != getattr(level, name):
                yield Difference(
                    check="stock.ledger",
                    subject=subject,
                    text=f"{name} is {getattr(level, name)}, its movements sum to {posted[name]}",
                    repair=repair,
                )
        if gap := posted["available"] + posted["committed"] + posted["damaged"] + posted["outside"]:
            yield Difference(
                check="stock.conservation",
                subject=subject,
                text=f"movements create or lose {gap} units",
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
def held_units(facts: Facts, _stuck_after: timedelta) -> Differences:
    """The reserved and committed units of a stock level are those that its reservations hold."""
    held: dict[tuple[str, str], Counter[str]] = {}
    for reservation in facts.reservations:
        for line in reservation.lines:
            place = held.setdefault((reservation.warehouse_id, line.sku), Counter())
            place.update(reserved=line.reserved, committed=line.committed)
    for level in facts.levels:
        sums = held.get((level.warehouse_id, level.sku), Counter())
        for name in ("reserved", "committed"):
            if sums[name] != getattr(level, name):
                text = f"{name} is {getattr(level, name)}, its reservations hold {sums[name]}"
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
def held_for_unknown_orders(facts: Facts, stuck_after: timedelta) -> Differences:
    """Units are held only for orders that exist.

    Only an event of their fulfilment uncommits units. If there is no fulfilment, no call uncommits
    them: an operator makes them available by a stock count.
    """
    counted = {movement.source_id for movement in facts.movements if movement.kind == ADJUST}
    for reservation in facts.reservations:
        # Only an active reservation expires.
        expires = reservation.HasField("expire_time")
        since = reservation.expire_time if expires else reservation.update_time
        if reservation.order_id in facts.orders or not older(since, facts.time, stuck_after):
            continue
        has_work = _work_of(facts, reservation) is not None
        undone = (
            _held(reservation) if has_work else sum(line.reserved for line in reservation.lines)
        )
        if undone:
            text = f"{undone} units for an order that does not exist"
            repair = undo(reservation.order_id)
            yield Difference(
                check="reservation.order", subject=_subject(reservation), text=text, repair=repair
            )
        if not has_work:
            yield from _uncounted(reservation, counted)


def _uncounted(reservation: warehouse_pb2.Reservation, counted: Collection[str]) -> Differences:
    """Returns the committed lines of a reservation without a fulfilment that no count has released.

    The count's request_id is derived from the reservation and the line. So the ledger shows whether
    the count was made, and a second one changes nothing.
    """
    for line in reservation.lines:
        name = f"reservation:{reservation.reservation_id}:{line.line_number}"
        request_id = str(uuid5(NAMESPACE_URL, name))
        if not line.committed or request_id in counted:
            continue
        place = f"{quote(reservation.warehouse_id)} {quote(line.sku)}"
        text = (
            f"line {line.line_number}: {line.committed} units of {line.sku} are committed in"
            f" {reservation.warehouse_id} for an order that does not exist, and no fulfilment picks"
            " them. No call uncommits them: check that they are on the shelf, then make them"
            " available"
        )
        repair = f"omctl stock adjust {place} --delta {line.committed} --request-id {request_id}"
        yield Difference(
            check="reservation.order", subject=_subject(reservation), text=text, repair=repair
        )


@check("orders", "reservations", "fulfillments", rules=("reservation.closed_attempt",))
def held_for_ended_attempts(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No units are held for an order or an attempt that has ended."""
    for reservation in facts.reservations:
        if _withdrawn(facts, reservation.order_id, reservation.attempt, reservation.warehouse_id):
            continue  # until shipping has answered whether the parcel leaves
        order, units_held = facts.orders.get(reservation.order_id), _held(reservation)
        if (
            order
            and units_held
            and (
                order.status in CANCELLED_OR_FAILED | ARRIVED
                or order.attempt != reservation.attempt
            )
        ):
            status = order_pb2.OrderStatus.Name(order.status)
            text = (
                f"{units_held} units for attempt {reservation.attempt}; the order is {status} at"
                f" attempt {order.attempt}"
            )
            repair = republish("fulfillment", _work_of(facts, reservation) or reservation.order_id)
            yield Difference(
                check="reservation.closed_attempt",
                subject=_subject(reservation),
                text=text,
                repair=repair,
            )


@check("orders", rules=("order.units",))
def lines(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Each ordered unit remains or is cancelled."""
    for order in facts.orders.values():
        for item in order.items:
            live = sum(allocation.quantity for allocation in item.allocations)
            if (
                order.status not in CANCELLED_OR_FAILED
                and live + item.cancelled_quantity != item.quantity
            ):
                text = (
                    f"line {item.line_number}: {item.quantity} ordered, {live} remain and"
                    f" {item.cancelled_quantity} are cancelled"
                )
                yield Difference(
                    check="order.units",
                    subject=f"order {order.order_id}",
                    text=text,
                    repair=f"omctl order get {order.order_id}",
                )


@check("orders", "reservations", "fulfillments", rules=("order.stock",))
def allocations(facts: Facts, _stuck_after: timedelta) -> Differences:
    """The warehouse holds or has shipped the units that an order allocates."""
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
                    continue  # cut units stay committed until shipping has answered the withdrawal
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


def _shown(level: warehouse_pb2.StockLevel) -> str:
    """Returns the command that shows a stock level, quoted for a shell: the names of warehouses
    and SKUs may hold any character.
    """
    return f"omctl stock list --warehouse {quote(level.warehouse_id)} --sku {quote(level.sku)}"


def _subject(reservation: warehouse_pb2.Reservation) -> str:
    return f"reservation {reservation.reservation_id} of order {reservation.order_id}"


def _held(reservation: warehouse_pb2.Reservation) -> int:
    """Returns the units that the reservation holds."""
    return sum(line.reserved + line.committed for line in reservation.lines)


def _unheld(order: order_pb2.Order, wanted: int, held: Counter[str]) -> str:
    """Returns what the warehouse holds if it differs from the order's allocation; else empty."""
    if order.status == order_pb2.ORDER_STATUS_PENDING:
        # The units may be committed already: then the order has not consumed the payment's event.
        return (
            "" if held["reserved"] + held["committed"] == wanted else f"{held['reserved']} reserved"
        )
    pending = order.stock_status == order_pb2.STOCK_STATUS_COMMIT_PENDING
    if order.status in AT_WORK | ARRIVED and not pending:
        # More units may have shipped than the order needs, when a cut came too late. The check
        # `recalled` covers their recall.
        still_here = max(wanted - held["shipped"], 0)
        return (
            ""
            if held["committed"] == still_here
            else f"{held['committed']} committed and {held['shipped']} shipped"
        )
    return ""


def _withdrawn(facts: Facts, order_id: str, attempt: int, warehouse_id: str) -> bool:
    """Returns whether the attempt's fulfilment in the warehouse is being withdrawn: its units stay
    committed meanwhile.
    """
    works = facts.fulfillments_of.get(order_id, ())
    return any(
        w.HasField("withdraw_reason")
        for w in works
        if (w.warehouse_id, w.attempt) == (warehouse_id, attempt)
    )


def _work_of(facts: Facts, reservation: warehouse_pb2.Reservation) -> str | None:
    """Returns the id of the fulfilment whose event frees the reservation; None without one."""
    works = facts.fulfillments_of.get(reservation.order_id, ())
    return next(
        (
            w.fulfillment_id
            for w in works
            if (w.warehouse_id, w.attempt) == (reservation.warehouse_id, reservation.attempt)
        ),
        None,
    )
