"""An order follows what fulfilment, shipping and the warehouse tell, in whichever order it hears of
it.

Units join by minimum: an order never has more units in a warehouse than the fulfilment there works
on, so that any order and any repetition of what is told ends the same.
"""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused
from chassis.values.versions import check_jump
from order_svc.decisions import returning
from order_svc.decisions.paying import refunding
from order_svc.decisions.steps import (
    Decided,
    allocated,
    emptied,
    end,
    late,
    reallocated,
    serving,
    steps,
    take,
    then,
)
from order_svc.lifecycle import (
    MOVES,
    RANK,
    End,
    Reason,
    ReturnReason,
    Status,
    StockStatus,
    Work,
    progress_of,
    status_of,
    way,
)
from order_svc.model import (
    Allocation,
    Allocations,
    Line,
    NoteFulfillment,
    NoteReservation,
    NoteShipment,
    NoteShipmentEnd,
    Order,
    Part,
)

# A fulfilment that ends so has lost no units: others do its work.
ELSEWHERE = "STOCK_COMMITTED_ELSEWHERE"
ENDED = {
    End.LOST: Reason.PARCEL_LOST,
    End.RETURNED: Reason.PARCEL_RETURNED,
    End.VOIDED: Reason.PARCEL_VOIDED,
}


def note_fulfillment(order: Order, command: NoteFulfillment, context: Context) -> Decided:
    """How far the work is, and on which units: those that left it are cancelled."""
    if nothing_there(order, command):
        return Decision(order)
    part = part_of(order, command.warehouse_id)
    if part is None:
        return Decision(order)
    check_jump(part.version, command.version, f"Fulfilment {command.fulfillment_id}")
    if command.work is None or command.version <= part.version:
        return Decision(order)
    stage = Reason[f"FULFILLMENT_{command.work.name}"]
    heard = replace(
        part, fulfillment_id=command.fulfillment_id, version=command.version, work=command.work
    )
    lines = tuple(worked_on(line, command) for line in order.lines)
    if command.work is not Work.CANCELLED and lines != order.lines:
        check_placed(order)
    followed = follow(order, heard, lines, (command.reason or stage, stage), context)
    lost = order.status is Status.REFUNDED and lines != order.lines
    return noted(order, followed, stage, context) if lost or further(part, heard) else followed


def further(part: Part, heard: Part) -> bool:
    """Whether the work, or the goods, are further than they were. Of a dead order that is news;
    that they were stopped is not.
    """
    return heard.standing is not None and (
        part.standing is None or RANK[heard.standing] > RANK[part.standing]
    )


def noted(order: Order, followed: Decided, reason: str, context: Context) -> Decided:
    """What was decided; where the order had ended before, it stands among its late events."""
    if MOVES[order.status]:
        return followed
    return then(followed, late(followed.record, reason, context))


def worked_on(line: Line, command: NoteFulfillment) -> Line:
    """The line with no more units in that warehouse than the fulfilment works on; and what has
    left it, where it has.
    """
    units = 0 if command.work is Work.CANCELLED else command.units.get(line.number)
    left = command.work in (Work.SHIPPED, Work.COMPLETED)
    final = command.committed or left or command.work is Work.CANCELLED
    if units is None or not final or command.reason == ELSEWHERE:
        return line

    def joined(its: Allocation) -> Allocation:
        if its.warehouse_id != command.warehouse_id:
            return its
        return replace(
            its,
            quantity=min(its.quantity, units),
            shipped=max(units, its.shipped or 0) if left else its.shipped,
        )

    return reallocated(line, [joined(allocation) for allocation in line.allocations])


def note_shipment(order: Order, command: NoteShipment, context: Context) -> Decided:
    """Goods are with a carrier, or with the customer.

    A shipment that was withdrawn before does not bring its label back. Its delivery counts: the
    parcel left all the same.
    """
    reason = Reason.DELIVERY_CONFIRMED if command.deliver_time else Reason.SHIPMENT_CREATED
    part = part_of(order, command.warehouse_id)
    if part is None:
        return late(order, reason, context)
    if command.deliver_time is None and withdrawn(part, command):
        return Decision(order)
    heard = replace(
        part,
        shipment_id=command.shipment_id,
        tracking_number=command.tracking_number or part.tracking_number,
        deliver_time=part.deliver_time or (None if part.ended else command.deliver_time),
    )
    if heard == part:
        return Decision(order)
    check_placed(order)
    followed = follow(order, heard, order.lines, (reason, reason), context)
    return noted(order, followed, reason, context)


def withdrawn(part: Part, command: NoteShipment) -> bool:
    """Whether the shipment has parcels of a version that the fulfilment has withdrawn since.

    A shipment of an unknown version (0) is older than any withdrawal.
    """
    return 0 < part.withdraw_version >= command.fulfillment_version


def note_shipment_end(order: Order, command: NoteShipmentEnd, context: Context) -> Decided:
    """A parcel that does not reach its customer: its units are cancelled.

    The units of a withdrawn parcel go on with another shipment, unless it was delivered all the
    same. The part keeps the version of the withdrawal, also where it has no such shipment: the
    shipment's other events may come later.
    """
    part = part_of(order, command.warehouse_id)
    if part is None:
        return Decision(order)
    check_jump(part.version, command.withdraw_version, f"The fulfilment in {part.warehouse_id}")
    heard = replace(part, withdraw_version=max(part.withdraw_version, command.withdraw_version))
    is_label = part.shipment_id == command.shipment_id and not part.deliver_time
    if command.withdrawn and is_label:
        heard = replace(heard, shipment_id=None, tracking_number=None)
    if command.ended is None or part.ended or part.deliver_time:
        reasons = (Reason.SHIPMENT_WITHDRAWN, Reason.SHIPMENT_WITHDRAWN)
        return follow(order, heard, order.lines, reasons, context)
    check_placed(order)
    tracking_number = command.tracking_number or part.tracking_number
    heard = replace(
        heard,
        shipment_id=command.shipment_id,
        tracking_number=tracking_number,
        ended=command.ended,
    )
    none = [
        (
            line,
            [
                replace(a, quantity=0) if a.warehouse_id == part.warehouse_id else a
                for a in line.allocations
            ],
        )
        for line in order.lines
    ]
    lines = tuple(reallocated(line, allocations) for line, allocations in none)
    reason = ENDED[command.ended]
    followed = follow(order, heard, lines, (reason, reason), context)
    return noted(order, followed, reason, context)


def note_reservation(order: Order, command: NoteReservation, context: Context) -> Decided:
    """Settles an owed commit: the warehouse has committed after all, or says no for good. Of a dead
    order: its units are back.

    Of a pending order it is only remembered: the answer that should have told it may be lost by the
    time that the payment is confirmed.
    """
    if order.status is Status.CANCELLED and command.freed and order.stock is StockStatus.COMMITTED:
        return Decision(replace(order, stock=StockStatus.RELEASED, update_time=context.time))
    if not MOVES[order.status] or (
        order.status is not Status.PENDING and order.stock is not StockStatus.OWED
    ):
        return Decision(order)
    if command.refused and order.stock is StockStatus.OWED:
        return end(order, Reason.STOCK_UNAVAILABLE, context)
    if not command.allocations:
        return Decision(order)  # nothing is committed yet
    placed = replace(order, lines=committed(order, command.allocations))
    stock = order.stock if order.status is Status.PENDING else StockStatus.COMMITTED
    return Decision(replace(placed, parts=serving(placed), stock=stock, update_time=context.time))


def committed(order: Order, allocations: Allocations) -> tuple[Line, ...]:
    """The lines, with where the warehouse has committed their units. Deferred where it tells of
    fewer than the order needs: some have come back to the shelf since, and the word of the
    commit, or of whoever brought them back, is still on its way.
    """
    try:
        return allocated(order.lines, allocations)
    except Refused as fewer:
        raise Deferred("EVENT_AHEAD", fewer.message, order_id=str(order.id)) from fewer


def part_of(order: Order, warehouse_id: str) -> Part | None:
    """The order's part in that warehouse. Deferred where there is none yet: the event is ahead of
    the payment's.

    None: the order has ended, and there never will be.
    """
    if order.status is Status.PENDING:
        raise Deferred(
            "PAYMENT_OUTSTANDING",
            "The order is not paid yet: this event waits for the payment's.",
            order_id=str(order.id),
        )
    for part in order.parts:
        if part.warehouse_id == warehouse_id:
            return part
    if not MOVES[order.status]:
        return None
    raise Deferred(
        "EVENT_AHEAD", f"The order knows of no work in {warehouse_id} yet.", order_id=str(order.id)
    )


def nothing_there(order: Order, command: NoteFulfillment) -> bool:
    """Whether the order knows where its stock is, and has none in that warehouse: units that it
    had lost before were committed there, and their work comes to nothing. Where they leave all
    the same that is no news to be skipped.
    """
    placed = order.stock not in (StockStatus.RESERVED, StockStatus.OWED)
    left = command.work in (Work.SHIPPED, Work.COMPLETED)
    return (
        placed
        and not left
        and all(part.warehouse_id != command.warehouse_id for part in order.parts)
    )


def check_placed(order: Order) -> None:
    """Defers what is about units as long as the order does not know where its stock was
    committed: it may be elsewhere.
    """
    if order.stock is StockStatus.OWED and MOVES[order.status]:
        raise Deferred(
            "EVENT_AHEAD", "Where the stock was committed is not known yet.", order_id=str(order.id)
        )


def follow(
    order: Order,
    heard: Part,
    lines: tuple[Line, ...],
    reasons: tuple[str, str],
    context: Context,
) -> Decided:
    """The order with what was heard of one part of it, and with the lines that this leaves.

    First the units that it cost are cancelled (for the first reason); then it walks every step on
    the way to what all its parts make of it (for the second). One that has ended moves no more and
    tells nothing; it knows what left, and a refunded one what stays.
    """
    parts = tuple(
        heard if part.warehouse_id == heard.warehouse_id else part for part in order.parts
    )
    if (parts, lines) == (order.parts, order.lines):
        return Decision(order)
    if order.status is Status.CANCELLED:
        known = tuple(as_shipped(old, new) for old, new in zip(order.lines, lines, strict=True))
        return Decision(emptied(replace(order, parts=parts, lines=known, update_time=context.time)))
    standings = [part.standing for part in parts]
    followed = replace(
        order, parts=parts, progress=progress_of(standings), update_time=context.time
    )
    if not MOVES[order.status]:
        left = replace(followed, lines=lines)
        return Decision(left if any(line.staying for line in lines) else emptied(left))
    taken = take(followed, lines, reasons[0], context)
    if taken.record.status is Status.CANCELLED:
        return taken
    here = taken.record
    there = status_of(standings)
    if there in (Status.SHIPPED, Status.DELIVERED) and here.stock is not StockStatus.RETURNED:
        here = replace(here, stock=StockStatus.DEDUCTED)
    path = way(here.status, there or here.status)
    walked = then(taken, steps(here, path, reasons[1], context))
    return then(walked, refunding(walked.record, context))


def as_shipped(old: Line, new: Line) -> Line:
    """The old line, with what the new one knows to have left the warehouses."""
    shipped = {allocation.warehouse_id: allocation.shipped for allocation in new.allocations}
    return replace(
        old, allocations=tuple(replace(a, shipped=shipped[a.warehouse_id]) for a in old.allocations)
    )


def recalls(decided: Decided, context: Context) -> Decided:
    """With the returns of what has left though it is not wanted any more; of a lost parcel
    nothing is waited for.
    """
    for part in decided.record.parts:
        if part.ended is End.LOST:
            reason = ReturnReason.PARCEL_LOST
            lost = returning.call_off(decided.record, part.warehouse_id, reason, context)
            decided = then(decided, lost)
        elif units := unwanted(decided.record, part):
            recall = returning.recall(decided.record, part.warehouse_id, units, context)
            decided = then(decided, recall)
    return decided


def unwanted(order: Order, part: Part) -> dict[int, int]:
    """Units by line that left that warehouse and are to come back: all of a dead order's, else
    those that were cut too late, or whose parcel came back.
    """
    units = {}
    for line in order.lines:
        for its in line.allocations:
            wanted = 0 if order.status is Status.CANCELLED else its.quantity
            if its.warehouse_id == part.warehouse_id and (its.shipped or 0) > wanted:
                units[line.number] = (its.shipped or 0) - wanted
    return units
