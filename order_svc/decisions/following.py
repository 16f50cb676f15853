"""An order follows what fulfilment, shipping and the warehouse tell, in whichever order it hears of it."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred
from order_svc.decisions.steps import Decided, allocated, steps, warehouses
from order_svc.lifecycle import MOVES, Status, StockStatus, Work, progress_of, status_of, way
from order_svc.model import Command, NoteFulfillment, NoteReservation, NoteShipment, Order, Part


def note_fulfillment(order: Order, command: NoteFulfillment, now: datetime) -> Decided:
    if command.work is None or not MOVES[order.status]:
        return Decision(order)
    part = part_of(order, command.warehouse_id)
    if command.version <= part.version:
        return Decision(order)
    heard = replace(part, fulfillment_id=command.fulfillment_id, version=command.version, work=command.work)
    return follow(order, heard, f"FULFILLMENT_{command.work.upper()}", command, now)


def note_shipment(order: Order, command: NoteShipment, now: datetime) -> Decided:
    if not MOVES[order.status]:
        return Decision(order)
    part = part_of(order, command.warehouse_id)
    heard = replace(
        part,
        shipment_id=command.shipment_id,
        tracking_number=command.tracking_number or part.tracking_number,
        deliver_time=part.deliver_time or command.deliver_time,
    )
    reason = "DELIVERY_CONFIRMED" if command.deliver_time else "SHIPMENT_CREATED"
    return follow(order, heard, reason, command, now)


def note_reservation(order: Order, command: NoteReservation, now: datetime) -> Decided:
    """Settles an owed commit: the warehouse has committed after all, or says no for good.

    Of a pending order it is only remembered: the answer that should have told it may be lost by the time that the payment is confirmed.
    """
    if order.status is not Status.PENDING and order.stock is not StockStatus.OWED:
        return Decision(order)
    if command.refused and order.stock is StockStatus.OWED:
        return steps(replace(order, stock=StockStatus.RELEASED), (Status.CANCELLED,), "STOCK_UNAVAILABLE", command, now)
    if not command.allocations:
        return Decision(order)  # nothing is committed yet
    lines = allocated(order.lines, command.allocations)
    heard = {part.warehouse_id: part for part in order.parts}
    serving = tuple(heard.pop(at) if at in heard else Part(at, order.attempt) for at in warehouses(lines))
    stock = order.stock if order.status is Status.PENDING else StockStatus.COMMITTED
    return Decision(replace(order, lines=lines, parts=(*serving, *map(withdrawn, heard.values())), stock=stock, update_time=now))


def withdrawn(part: Part) -> Part:
    """The part of a warehouse that serves the order no more. Its work, if there is any, is cancelled, and says so itself."""
    return replace(part, work=Work.CANCELLED) if part.work is Work.EXPECTED else part


def part_of(order: Order, warehouse_id: str) -> Part:
    """The order's part in that warehouse. Deferred where there is none yet: the event is ahead of the payment's."""
    if order.status is Status.PENDING:
        raise Deferred("PAYMENT_OUTSTANDING", "The order is not paid yet: this event waits for the payment's.", order_id=str(order.id))
    for part in order.parts:
        if part.warehouse_id == warehouse_id:
            return part
    raise Deferred("EVENT_AHEAD", f"The order knows of no work in {warehouse_id} yet.", order_id=str(order.id))


def follow(order: Order, heard: Part, reason: str, command: Command, now: datetime) -> Decided:
    """The order with what was heard of one part of it: it walks every step on the way to what all its parts make of it."""
    parts = tuple(heard if part.warehouse_id == heard.warehouse_id else part for part in order.parts)
    if parts == order.parts:
        return Decision(order)
    standings = [part.standing for part in parts]
    there = status_of(standings) or order.status
    stock = StockStatus.DEDUCTED if there in (Status.SHIPPED, Status.DELIVERED) else order.stock
    followed = replace(order, parts=parts, progress=progress_of(standings), stock=stock, update_time=now)
    return steps(followed, way(order.status, there), reason, command, now)
