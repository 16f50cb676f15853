"""How a fulfilment ends: with a shipment, or cancelled by the staff; and its void labels."""

from collections import Counter
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred
from fulfillment_svc.decisions.transitions import (
    DecidedOne,
    advance,
    lines_changed,
    next_status,
    next_version,
    require_committed,
    stop,
)
from fulfillment_svc.lifecycle import (
    Reason,
    Status,
    Trigger,
    WithdrawReason,
    path_between,
)
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    Complete,
    ConfirmWithdrawal,
    Ship,
    ShipmentCommand,
)
from fulfillment_svc.model.records import Fulfillment, VoidLabel

REASONS = {Status.SHIPPED: Reason.SHIPMENT_CREATED, Status.COMPLETED: Reason.DELIVERY_CONFIRMED}


def cancel_fulfillment(
    fulfillment: Fulfillment, command: CancelFulfillment, context: Context
) -> DecidedOne:
    """The staff cannot do the work: its units go back to the shelf.

    Raises Refused STOCK_NOT_COMMITTED while the commit is pending. The stock may be committed in
    another warehouse by now, and the worker asks for it only while this fulfilment waits.
    """
    next_status(fulfillment, Trigger.CANCEL)
    require_committed(fulfillment)
    return stop(fulfillment, WithdrawReason.CANCEL_REQUESTED, context)


def ship(fulfillment: Fulfillment, command: Ship, context: Context) -> DecidedOne:
    """ready -> shipped, by a bought label or by the carrier's report."""
    return apply_shipment_status(fulfillment, Status.SHIPPED, command, context)


def complete(fulfillment: Fulfillment, command: Complete, context: Context) -> DecidedOne:
    """ready or shipped -> completed, by the delivery."""
    return apply_shipment_status(fulfillment, Status.COMPLETED, command, context)


def apply_shipment_status(
    fulfillment: Fulfillment,
    target: Status,
    command: Ship | Complete,
    context: Context,
) -> DecidedOne:
    """Returns the fulfilment in the status `target`, through the statuses between, with all packed
    units. Raises Deferred EVENT_AHEAD until it is ready.

    A label alone does not ship a withdrawn fulfilment: the label is about to be void, unless the
    carrier has the parcels.
    """
    if is_withdrawn(fulfillment, command):
        return Decision(fulfillment)
    if path_between(fulfillment.status, Status.READY):
        raise Deferred(
            "EVENT_AHEAD",
            f"the fulfilment is {fulfillment.status}: its shipment waits for ready",
            status=fulfillment.status,
        )
    if not (path := path_between(fulfillment.status, target)):
        return Decision(fulfillment)
    carried = replace(fulfillment, shipment_id=command.shipment_id)
    if fulfillment.withdraw_reason and isinstance(command, Ship) and not command.shipped:
        if carried == fulfillment:
            return Decision(fulfillment)
        return Decision(next_version(carried, context))
    moves = [(status, REASONS[status]) for status in path]
    return advance(replace(carried, withdraw_reason=None), moves, context)


def is_withdrawn(fulfillment: Fulfillment, command: ShipmentCommand) -> bool:
    """Whether shipping has confirmed the withdrawal of this shipment before."""
    return command.fulfillment_version < fulfillment.withdrawn_version


def add_void_label(fulfillment: Fulfillment, command: ConfirmWithdrawal) -> tuple[VoidLabel, ...]:
    """The void labels, with that of the shipment: its parcels hold what the packages do."""
    if not command.label_void:
        return fulfillment.void_labels
    units: Counter[int] = Counter()
    for item in (item for package in fulfillment.packages for item in package.items):
        units[item.line_number] += item.quantity
    return (*fulfillment.void_labels, VoidLabel(command.shipment_id, dict(sorted(units.items()))))


def record_shipped_after_void(
    fulfillment: Fulfillment, command: ConfirmWithdrawal, context: Context
) -> DecidedOne:
    """The parcels of a void label shipped all the same: published once, with their units."""
    label = next(
        (each for each in fulfillment.void_labels if each.shipment_id == command.shipment_id), None
    )
    if not command.shipped or label is None or label.shipped:
        return Decision(fulfillment)
    shipped_label = replace(label, shipped=True)
    labels = tuple(shipped_label if each is label else each for each in fulfillment.void_labels)
    after = next_version(replace(fulfillment, void_labels=labels), context)
    return Decision(
        after, (), (lines_changed(after, Reason.SHIPPED_AFTER_VOID, context, shipped_label),)
    )
