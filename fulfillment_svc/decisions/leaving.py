"""How a fulfilment leaves: with a shipment, or given up; and how it stays, where shipping says
that nothing of it leaves.
"""

from collections import Counter
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred
from fulfillment_svc.decisions.steps import (
    DecidedOne,
    committed,
    lines_changed,
    move,
    next_version,
    stopped,
    walk,
)
from fulfillment_svc.lifecycle import Reason, Status, Trigger, WithdrawReason, before, way
from fulfillment_svc.model import (
    Complete,
    Fulfillment,
    GiveUp,
    OfShipment,
    Release,
    Ship,
    VoidLabel,
)

REASONS = {Status.SHIPPED: Reason.SHIPMENT_CREATED, Status.COMPLETED: Reason.DELIVERY_CONFIRMED}


def give_up(fulfillment: Fulfillment, command: GiveUp, context: Context) -> DecidedOne:
    """The staff cannot do it: its units go back to the shelf. Not while they are owed: they may
    be committed elsewhere by now, and this work is the one that still asks for them, so that
    nobody else would ever work on them.
    """
    move(fulfillment, Trigger.CANCEL)
    committed(fulfillment)
    return stopped(fulfillment, WithdrawReason.WORK_CANCELLED, context)


def ship(fulfillment: Fulfillment, command: Ship, context: Context) -> DecidedOne:
    """ready -> shipped, by a bought label or by the carrier's report."""
    return arrive(fulfillment, Status.SHIPPED, command, context)


def complete(fulfillment: Fulfillment, command: Complete, context: Context) -> DecidedOne:
    """ready or shipped -> completed, by the delivery."""
    return arrive(fulfillment, Status.COMPLETED, command, context)


def arrive(
    fulfillment: Fulfillment,
    there: Status,
    command: Ship | Complete,
    context: Context,
) -> DecidedOne:
    """The fulfilment in the status `there`, through the statuses between, with all packed units.

    A label alone does not ship a withdrawn fulfilment: the label is about to be void, unless the
    carrier has the parcels.
    """
    if released(fulfillment, command):
        return Decision(fulfillment)
    if before(fulfillment.status, Status.READY):
        raise Deferred(
            "EVENT_AHEAD",
            f"the fulfilment is {fulfillment.status}: its shipment waits for ready",
            status=fulfillment.status,
        )
    if not (path := way(fulfillment.status, there)):
        return Decision(fulfillment)
    carried = replace(fulfillment, shipment_id=command.shipment_id)
    if fulfillment.withdraw_reason and isinstance(command, Ship) and not command.left:
        if carried == fulfillment:
            return Decision(fulfillment)
        return Decision(next_version(carried, context))
    steps = [(status, REASONS[status]) for status in path]
    return walk(replace(carried, withdraw_reason=None), steps, context)


def released(fulfillment: Fulfillment, command: OfShipment) -> bool:
    """Whether the shipment is one that shipping has said to be void before."""
    return command.fulfillment_version < fulfillment.released_version


def emptied_label(fulfillment: Fulfillment, command: Release) -> tuple[VoidLabel, ...]:
    """The void labels, with that of the shipment: its parcels hold what the packages do."""
    if not command.label_void:
        return fulfillment.void_labels
    units: Counter[int] = Counter()
    for item in (item for package in fulfillment.packages for item in package.items):
        units[item.line_number] += item.quantity
    return (*fulfillment.void_labels, VoidLabel(command.shipment_id, dict(sorted(units.items()))))


def left_after_void(fulfillment: Fulfillment, command: Release, context: Context) -> DecidedOne:
    """The parcels of a void label have left all the same: told once, with what they held."""
    label = next(
        (each for each in fulfillment.void_labels if each.shipment_id == command.shipment_id), None
    )
    if not command.left or label is None or label.left:
        return Decision(fulfillment)
    gone = replace(label, left=True)
    labels = tuple(gone if each is label else each for each in fulfillment.void_labels)
    after = next_version(replace(fulfillment, void_labels=labels), context)
    return Decision(after, (), (lines_changed(after, Reason.LEFT_AFTER_VOID, context, gone),))
