"""How a fulfilment leaves: with a shipment, or given up."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred
from fulfillment_svc.decisions.steps import DecidedOne, cancelled, committed, move, walk
from fulfillment_svc.lifecycle import Status, Trigger, before, way
from fulfillment_svc.model import Complete, Fulfillment, GiveUp, Ship

REASONS = {Status.SHIPPED: "SHIPMENT_CREATED", Status.COMPLETED: "DELIVERY_CONFIRMED"}


# Where a fulfilment can stand that was ready before.
ON_THE_BENCH = frozenset({Status.PICKING, Status.PICKED, Status.PACKING, Status.PACKED})


def give_up(fulfillment: Fulfillment, command: GiveUp, now: datetime) -> DecidedOne:
    """The staff cannot do it: its units go back to the shelf. Not while they are owed: they may be committed elsewhere by now, and this
    work is the one that still asks for them, so that nobody else would ever work on them.
    """
    move(fulfillment, Trigger.CANCEL)
    committed(fulfillment)
    return cancelled(fulfillment, "WORK_CANCELLED", command, now, command.note)


def arrive(fulfillment: Fulfillment, there: Status, command: Ship | Complete, now: datetime) -> DecidedOne:
    """News of the shipment: forward to `there`, through what was not heard yet.

    It cannot exist before the fulfilment was ready for the first time. One that a cut has sent back from there remembers its shipment,
    and goes with it once it is ready again; its delivery waits for that.
    """
    if there is Status.SHIPPED and fulfillment.status in ON_THE_BENCH:
        return remember(fulfillment, command, now)
    if before(fulfillment.status, Status.READY):
        raise Deferred("EVENT_AHEAD", f"the fulfilment is {fulfillment.status}: its shipment waits for ready", status=fulfillment.status)
    if not (path := way(fulfillment.status, there)):
        return Decision(fulfillment)
    carried = replace(fulfillment, shipment_id=command.shipment_id)
    return walk(carried, [(status, REASONS[status]) for status in path], command, now)


def remember(fulfillment: Fulfillment, command: Ship | Complete, now: datetime) -> DecidedOne:
    """The shipment that will carry it. No status changes, so nothing is told."""
    if fulfillment.shipment_id:
        return Decision(fulfillment)
    return Decision(replace(fulfillment, shipment_id=command.shipment_id, version=fulfillment.version + 1, update_time=now))
