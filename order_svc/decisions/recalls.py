"""Recalls: units that left a warehouse and are cancelled come back by a return."""

from collections.abc import Mapping
from functools import wraps
from typing import Any
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from order_svc.decisions.returns import advance_return, new_return, return_of
from order_svc.decisions.transitions import Decided, OrderDecider, chain
from order_svc.lifecycle import ReturnKind, ReturnReason, ReturnStatus, ShipmentOutcome, Status
from order_svc.model.records import Order, WarehouseFulfillment
from order_svc.model.returns import Return, ReturnLine


def with_recalls(decide: OrderDecider) -> OrderDecider:
    """Returns the decider of a command that may cancel units that have shipped: it recalls them
    too. The recalls of a lost parcel are cancelled.
    """

    @wraps(decide)
    def decide_recalls(order: Order | None, command: Any, context: Context) -> Decided:
        decided = decide(order, command, context)
        for fulfillment in decided.record.fulfillments:
            if fulfillment.outcome is ShipmentOutcome.LOST:
                consequence = cancel_recalls(
                    decided.record, fulfillment.warehouse_id, ReturnReason.PARCEL_LOST, context
                )
                decided = chain(decided, consequence)
            elif units := units_to_recall(decided.record, fulfillment):
                consequence = recall(decided.record, fulfillment.warehouse_id, units, context)
                decided = chain(decided, consequence)
        return decided

    return decide_recalls


def units_to_recall(order: Order, fulfillment: WarehouseFulfillment) -> dict[int, int]:
    """Returns the units by line that left that warehouse and are to come back: all of a cancelled
    order's, else those that were cut too late, or whose parcel came back.
    """
    units = {}
    for line in order.lines:
        for allocation in line.allocations:
            remaining = 0 if order.status is Status.CANCELLED else allocation.quantity
            if (
                allocation.warehouse_id == fulfillment.warehouse_id
                and (allocation.shipped or 0) > remaining
            ):
                units[line.number] = (allocation.shipped or 0) - remaining
    return units


def recall(
    order: Order,
    warehouse_id: str,
    units: Mapping[int, int],
    context: Context,
) -> Decided:
    """Goods that left a warehouse for what was cancelled come back, by an approved return without a
    refund.

    `units`, by line: all that are to come back of what this warehouse sent for the order's attempt,
    those that earlier recalls have announced included. So a repeat makes no second return, and a
    recall that grows makes one of the rest.
    """
    earlier = recalls_from(order, warehouse_id)
    announced = {
        number: sum(order_return.line(number).announced for order_return in earlier)
        for number in units
    }
    rest = {
        number: n - announced[number]
        for number, n in sorted(units.items())
        if n > announced[number]
    }
    if not rest:
        return Decision(order)
    lines = [
        ReturnLine(number=number, sku=order.line(number).sku, announced=quantity)
        for number, quantity in rest.items()
    ]
    return_id = recall_id(order, warehouse_id, len(earlier))
    order_return = new_return(order, return_id, ReturnKind.RECALL, "RECALL", lines, context)
    return advance_return(
        order, order_return, [(ReturnStatus.APPROVED, ReturnReason.RECALLED)], context
    )


def cancel_recalls(order: Order, warehouse_id: str, reason: str, context: Context) -> Decided:
    """Cancels the recalls from this warehouse that are not yet in transit."""
    done: Decided = Decision(order)
    for order_return in recalls_from(order, warehouse_id):
        if order_return.status is ReturnStatus.APPROVED:
            path = [(ReturnStatus.CANCELLED, reason)]
            done = chain(done, advance_return(done.record, order_return, path, context))
    return done


def recalls_from(order: Order, warehouse_id: str) -> list[Return]:
    """Returns the recalls from that warehouse in the order's attempt, oldest first."""
    found: list[Return] = []
    while order_return := return_of(order, recall_id(order, warehouse_id, len(found))):
        found.append(order_return)
    return found


def recall_id(order: Order, warehouse_id: str, count: int) -> UUID:
    """Returns the id of an attempt's recall from a warehouse, the first being 0."""
    return uuid5(order.id, f"recall/{order.attempt}/{count}/{warehouse_id}")
