"""How a fulfilment leaves: with a shipment, or given up."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred
from fulfillment_svc.decisions.steps import DecidedOne, cancelled, move, walk
from fulfillment_svc.lifecycle import Status, Trigger, before, way
from fulfillment_svc.model import Complete, Fulfillment, GiveUp, Ship

REASONS = {Status.SHIPPED: "SHIPMENT_CREATED", Status.COMPLETED: "DELIVERY_CONFIRMED"}


def give_up(fulfillment: Fulfillment, command: GiveUp, now: datetime) -> DecidedOne:
    """The staff cannot do it: its units go back to the shelf."""
    move(fulfillment, Trigger.CANCEL)
    return cancelled(fulfillment, "WORK_CANCELLED", command, now, command.note)


def arrive(fulfillment: Fulfillment, there: Status, command: Ship | Complete, now: datetime) -> DecidedOne:
    """News of the shipment: forward to `there`, through what was not heard yet. It cannot exist before ready, so before that it waits."""
    if before(fulfillment.status, Status.READY):
        raise Deferred("EVENT_AHEAD", f"the fulfilment is {fulfillment.status}: its shipment waits for ready", status=fulfillment.status)
    if not (path := way(fulfillment.status, there)):
        return Decision(fulfillment)
    carried = replace(fulfillment, shipment_id=command.shipment_id)
    return walk(carried, [(status, REASONS[status]) for status in path], command, now)
