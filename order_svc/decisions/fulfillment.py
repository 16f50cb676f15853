"""Events of fulfilments and their shipments, in any order of these events.

Units join by minimum: an order never has more units in a warehouse than the picklist there, so any
order and any repetition of the events ends the same.
"""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred
from chassis.values.versions import check_jump
from order_svc.decisions.refunds import with_refunded_status
from order_svc.decisions.transitions import (
    Decided,
    advance,
    cancel_units,
    chain,
    reallocated,
    record_late_event,
)
from order_svc.lifecycle import (
    MOVES,
    RANK,
    SHIPPED_STATES,
    FulfillmentState,
    Reason,
    ShipmentOutcome,
    Status,
    StockStatus,
    path,
)
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyShipment,
    ApplyShipmentOutcome,
)
from order_svc.model.records import Line, Order, WarehouseFulfillment

# A fulfilment that is cancelled for this reason has lost no units: another one has them.
COMMITTED_ELSEWHERE = "STOCK_COMMITTED_ELSEWHERE"


REASON_BY_OUTCOME = {
    ShipmentOutcome.LOST: Reason.PARCEL_LOST,
    ShipmentOutcome.RETURNED: Reason.PARCEL_RETURNED,
    ShipmentOutcome.VOIDED: Reason.PARCEL_VOIDED,
}


def apply_fulfillment_status(
    order: Order, command: ApplyFulfillmentStatus, context: Context
) -> Decided:
    """Applies a fulfilment's status and picklist: units that left the picklist are cancelled."""
    if is_without_allocation(order, command):
        return Decision(order)
    fulfillment = fulfillment_at(order, command.warehouse_id)
    if fulfillment is None:
        return Decision(order)
    check_jump(fulfillment.version, command.version, f"Fulfilment {command.fulfillment_id}")
    if command.state is None or command.version <= fulfillment.version:
        return Decision(order)
    reason = Reason[f"FULFILLMENT_{command.state.name}"]
    updated = replace(
        fulfillment,
        fulfillment_id=command.fulfillment_id,
        version=command.version,
        state=command.state,
    )
    lines = tuple(limited_to_picklist(line, command) for line in order.lines)
    if command.state is not FulfillmentState.CANCELLED and lines != order.lines:
        check_commit_not_pending(order)
    decided = apply_update(order, updated, lines, (command.reason or reason, reason), context)
    units_lost = order.status is Status.REFUNDED and lines != order.lines
    return (
        with_late_event(order, decided, reason, context)
        if units_lost or is_further(fulfillment, updated)
        else decided
    )


def is_further(before: WarehouseFulfillment, after: WarehouseFulfillment) -> bool:
    """Whether the fulfilment or its goods went forward. For a cancelled order that is a late event;
    a fulfilment that was stopped is not.
    """
    return after.order_status is not None and (
        before.order_status is None or RANK[after.order_status] > RANK[before.order_status]
    )


def with_late_event(order: Order, decided: Decided, reason: str, context: Context) -> Decided:
    """Returns the decision, with a late event where the order had ended before."""
    if MOVES[order.status]:
        return decided
    return chain(decided, record_late_event(decided.record, reason, context))


def limited_to_picklist(line: Line, command: ApplyFulfillmentStatus) -> Line:
    """Returns the line with no more units in that warehouse than on the picklist there; and with
    the shipped units, where the fulfilment has shipped.
    """
    units = 0 if command.state is FulfillmentState.CANCELLED else command.units.get(line.number)
    shipped = command.state in SHIPPED_STATES
    final = command.committed or shipped or command.state is FulfillmentState.CANCELLED
    if units is None or not final or command.reason == COMMITTED_ELSEWHERE:
        return line
    return limited(line, command.warehouse_id, units, shipped=units if shipped else None)


def limited(line: Line, warehouse_id: str, units: int, *, shipped: int | None = None) -> Line:
    """Returns the line with at most so many units in that warehouse, and at least `shipped` units
    that have left it.
    """
    allocations = [
        replace(
            allocation,
            quantity=min(allocation.quantity, units),
            shipped=allocation.shipped
            if shipped is None
            else max(shipped, allocation.shipped or 0),
        )
        if allocation.warehouse_id == warehouse_id
        else allocation
        for allocation in line.allocations
    ]
    return reallocated(line, allocations)


def apply_shipment(order: Order, command: ApplyShipment, context: Context) -> Decided:
    """Goods are with a carrier, or with the customer.

    A shipment that was withdrawn before does not bring its label back. Its delivery counts: the
    parcel left all the same.
    """
    reason = Reason.DELIVERY_CONFIRMED if command.deliver_time else Reason.SHIPMENT_CREATED
    fulfillment = fulfillment_at(order, command.warehouse_id)
    if fulfillment is None:
        return record_late_event(order, reason, context)
    if command.deliver_time is None and withdrawn(fulfillment, command):
        return Decision(order)
    updated = replace(
        fulfillment,
        shipment_id=command.shipment_id,
        tracking_number=command.tracking_number or fulfillment.tracking_number,
        deliver_time=fulfillment.deliver_time
        or (None if fulfillment.outcome else command.deliver_time),
    )
    if updated == fulfillment:
        return Decision(order)
    check_commit_not_pending(order)
    decided = apply_update(order, updated, order.lines, (reason, reason), context)
    return with_late_event(order, decided, reason, context)


def withdrawn(fulfillment: WarehouseFulfillment, command: ApplyShipment) -> bool:
    """Whether the shipment has parcels of a version that the fulfilment has withdrawn since.

    A shipment of an unknown version (0) is older than any withdrawal.
    """
    return 0 < fulfillment.withdraw_version >= command.fulfillment_version


def apply_shipment_outcome(
    order: Order, command: ApplyShipmentOutcome, context: Context
) -> Decided:
    """A parcel that does not reach its customer: its units are cancelled.

    The units of a withdrawn parcel go on with another shipment, unless it was delivered all the
    same. The fulfilment keeps the version of the withdrawal, also where it has no such shipment:
    the shipment's other events may come later.
    """
    fulfillment = fulfillment_at(order, command.warehouse_id)
    if fulfillment is None:
        return Decision(order)
    check_jump(
        fulfillment.version,
        command.withdraw_version,
        f"The fulfilment in {fulfillment.warehouse_id}",
    )
    updated = replace(
        fulfillment, withdraw_version=max(fulfillment.withdraw_version, command.withdraw_version)
    )
    is_label = fulfillment.shipment_id == command.shipment_id and not fulfillment.deliver_time
    if command.withdrawn and is_label:
        updated = replace(updated, shipment_id=None, tracking_number=None)
    if command.outcome is None or fulfillment.outcome or fulfillment.deliver_time:
        reasons = (Reason.SHIPMENT_WITHDRAWN, Reason.SHIPMENT_WITHDRAWN)
        return apply_update(order, updated, order.lines, reasons, context)
    check_commit_not_pending(order)
    updated = replace(
        updated,
        shipment_id=command.shipment_id,
        tracking_number=command.tracking_number or fulfillment.tracking_number,
        outcome=command.outcome,
    )
    lines = tuple(limited(line, command.warehouse_id, units=0) for line in order.lines)
    reason = REASON_BY_OUTCOME[command.outcome]
    decided = apply_update(order, updated, lines, (reason, reason), context)
    return with_late_event(order, decided, reason, context)


def fulfillment_at(order: Order, warehouse_id: str) -> WarehouseFulfillment | None:
    """Returns the order's fulfilment in that warehouse; None where the order has ended without one.

    Raises Deferred where there is none yet: the event is ahead of the payment's.
    """
    if order.status is Status.PENDING:
        raise Deferred(
            "PAYMENT_OUTSTANDING",
            "The order is not paid yet: this event waits for the payment's.",
            order_id=str(order.id),
        )
    for fulfillment in order.fulfillments:
        if fulfillment.warehouse_id == warehouse_id:
            return fulfillment
    if not MOVES[order.status]:
        return None
    raise Deferred(
        "EVENT_AHEAD", f"The order has no fulfilment in {warehouse_id} yet.", order_id=str(order.id)
    )


def is_without_allocation(order: Order, command: ApplyFulfillmentStatus) -> bool:
    """Whether the order's stock is located, and none of it is in that warehouse.

    The warehouse committed units there that the order had already lost: a report of their
    fulfilment changes nothing. A report that they have shipped counts all the same.
    """
    located = order.stock not in (StockStatus.RESERVED, StockStatus.COMMIT_PENDING)
    return (
        located
        and command.state not in SHIPPED_STATES
        and all(
            fulfillment.warehouse_id != command.warehouse_id for fulfillment in order.fulfillments
        )
    )


def check_commit_not_pending(order: Order) -> None:
    """Raises Deferred for an event about units while the commit of an open order is pending: the
    stock may be committed in another warehouse.
    """
    if order.stock is StockStatus.COMMIT_PENDING and MOVES[order.status]:
        raise Deferred(
            "EVENT_AHEAD", "Where the stock was committed is not known yet.", order_id=str(order.id)
        )


def apply_update(
    order: Order,
    updated: WarehouseFulfillment,
    lines: tuple[Line, ...],
    reasons: tuple[str, str],
    context: Context,
) -> Decided:
    """Returns the order with one updated fulfilment, and with these lines.

    First the units that the lines lack are cancelled (for the first reason); then the order takes
    each transition of the path to the status that follows from all its fulfilments (for the
    second). An order that has ended has no transition and no event; it stores the shipped
    units, and a refunded one the remaining units.
    """
    fulfillments = tuple(
        updated if fulfillment.warehouse_id == updated.warehouse_id else fulfillment
        for fulfillment in order.fulfillments
    )
    if (fulfillments, lines) == (order.fulfillments, order.lines):
        return Decision(order)
    changed = replace(order, fulfillments=fulfillments, update_time=context.time)
    if order.status is Status.CANCELLED:
        lines_shipped = tuple(
            with_shipped_units(old, new) for old, new in zip(order.lines, lines, strict=True)
        )
        return Decision(replace(changed, lines=lines_shipped))
    if not MOVES[order.status]:
        return Decision(replace(changed, lines=lines))
    cancelled = cancel_units(changed, lines, reasons[0], context)
    current = cancelled.record
    forward = path(current.status, current.fulfillment_status or current.status)
    advanced = chain(cancelled, advance(current, forward, reasons[1], context))
    return chain(advanced, with_refunded_status(advanced.record, context))


def with_shipped_units(old: Line, new: Line) -> Line:
    """Returns the old line with the shipped units of the new one."""
    shipped = {allocation.warehouse_id: allocation.shipped for allocation in new.allocations}
    return replace(
        old, allocations=tuple(replace(a, shipped=shipped[a.warehouse_id]) for a in old.allocations)
    )
