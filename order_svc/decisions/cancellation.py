"""An order, or units of it, are cancelled, by a caller or by the end of the time to pay."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused, Violation
from order_svc.decisions.transitions import (
    Decided,
    cancel_order,
    cancel_units,
    check_version,
    reallocated,
    reduced_allocations,
)
from order_svc.lifecycle import MOVES, NOT_FULLY_SHIPPED, Reason, Status
from order_svc.model.commands import CancelItems, CancelOrder, ExpireOrder, Request
from order_svc.model.records import Order, WarehouseFulfillment


def cancel(order: Order, command: CancelOrder, context: Context) -> Decided:
    """Cancels the whole order, unless any of it was delivered. What has left is recalled."""
    check_cancellation(order, command, possible=cancellable(order))
    return cancel_order(order, command.reason, context)


def cancel_items(order: Order, command: CancelItems, context: Context) -> Decided:
    """Cancels units that are not with a carrier: those of all given lines, or none. The units that
    were sourced last are cancelled first.
    """
    check_cancellation(order, command, possible=may_have_unshipped_units(order))
    shipped_warehouses = frozenset(
        fulfillment.warehouse_id for fulfillment in order.fulfillments if fulfillment.has_shipped
    )
    cancellable_units = {
        line.number: sum(
            a.quantity for a in line.allocations if a.warehouse_id not in shipped_warehouses
        )
        for line in order.lines
    }
    violations = [
        Violation(
            f"line {number}",
            f"requested {units}, cancellable {cancellable_units.get(number, 0)}",
            "UNITS",
        )
        for number, units in command.units.items()
        if units > cancellable_units.get(number, 0)
    ]
    if violations:
        raise Refused(
            "ITEMS_NOT_CANCELLABLE",
            "Fewer units of these lines can be cancelled.",
            violations=violations,
        )
    lines = tuple(
        reallocated(
            line,
            reduced_allocations(line.allocations, command.units[line.number], shipped_warehouses),
        )
        if line.number in command.units
        else line
        for line in order.lines
    )
    return cancel_units(order, lines, command.reason, context)


def expire(order: Order, command: ExpireOrder, context: Context) -> Decided:
    """The time to pay is over, by the clock of this very write."""
    if order.expire_time is None:
        return Decision(order)  # it was paid, cancelled or failed in that instant
    if context.time < order.expire_time:
        raise Deferred("CONTENTION", "The order's time is not over: it was tried again.")
    return cancel_order(order, Reason.PAYMENT_EXPIRED, context)


def check_cancellation(order: Order, request: Request, *, possible: bool) -> None:
    """Raises Stale, or the refusal of an order that is cancelled or whose cancellation is not
    possible.
    """
    check_version(order, request)
    if order.status is Status.CANCELLED:
        raise Refused(
            "ORDER_ALREADY_CANCELLED",
            "The order was cancelled before.",
            status=order.status,
            cancel_reason=order.reason,
        )
    if not possible:
        text = f"The order is {order.status}. {cancellation_advice(order)}"
        raise Refused(
            "ORDER_NOT_CANCELLABLE",
            text,
            violations=(),
            status=order.status,
            **in_transit_metadata(order),
        )


def cancellable(order: Order) -> bool:
    """Whether the order may become cancelled and none of its parcels is delivered."""
    delivered = any(
        fulfillment.order_status is Status.DELIVERED for fulfillment in order.fulfillments
    )
    return Status.CANCELLED in MOVES[order.status] and not delivered


def may_have_unshipped_units(order: Order) -> bool:
    """Whether the order may have units that are not with a carrier.

    An order stays shipped when a label is withdrawn: the units of that parcel are packed anew.
    """
    if order.status is Status.SHIPPED:
        return any(awaits_shipment(fulfillment) for fulfillment in order.fulfillments)
    return order.status in NOT_FULLY_SHIPPED


def awaits_shipment(fulfillment: WarehouseFulfillment) -> bool:
    """Whether the units of this fulfilment are still to leave the warehouse."""
    return fulfillment.order_status is not None and not fulfillment.has_shipped


def cancellation_advice(order: Order) -> str:
    """Returns what to do in place of a cancellation: a sentence for each kind of parcel."""
    if not order.fulfillments:
        return "It holds no stock and no money: try it again with RetryOrder, or leave it."
    statuses = [fulfillment.order_status for fulfillment in order.fulfillments]
    advice = []
    if Status.DELIVERED in statuses:
        advice.append("Return the delivered units with CreateReturn.")
    if Status.SHIPPED in statuses:
        advice.append("Recall the parcels that are on their way with CancelShipment.")
    if may_have_unshipped_units(order) and any(
        awaits_shipment(fulfillment) for fulfillment in order.fulfillments
    ):
        advice.append("Cancel the units that have not left with CancelOrderItems.")
    if cancellable(order):
        advice.append("Cancel the whole order with CancelOrder.")
    return " ".join(advice)


def in_transit_metadata(order: Order) -> dict[str, str]:
    """Returns the metadata of a refusal: the ids of the shipments that are on their way."""
    ids = [
        str(fulfillment.shipment_id)
        for fulfillment in order.fulfillments
        if fulfillment.order_status is Status.SHIPPED and fulfillment.shipment_id
    ]
    return {"shipment_ids": ", ".join(ids)} if ids else {}
