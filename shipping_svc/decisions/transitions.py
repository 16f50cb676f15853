"""The next version of a shipment and its row of history. Pure."""

from dataclasses import replace
from typing import Any

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused, illegal
from shipping_svc.lifecycle import MOVES, Reason, Status
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallOpened, Row, Shipment, Transition

ShipmentDecision = Decision[Shipment, Row]


def next_version(
    shipment: Shipment,
    reason: Reason,
    context: Context,
    **fields: Any,
) -> tuple[Shipment, Transition]:
    """Returns the shipment's next version with these fields, and its row of history."""
    version = shipment.version + 1
    after = replace(shipment, reason=reason, version=version, update_time=context.time, **fields)
    return after, transition(after, shipment.status, context)


def next_status(
    shipment: Shipment,
    new: Status,
    reason: Reason,
    context: Context,
    **fields: Any,
) -> tuple[Shipment, Transition]:
    """Returns the shipment's next version with another status, and its row of history.

    Raises Refused ILLEGAL_TRANSITION where MOVES has no such move.
    """
    if new not in MOVES[shipment.status]:
        raise cannot_become(shipment, new)
    return next_version(shipment, reason, context, status=new, **fields)


def fail_shipment(shipment: Shipment, reason: Reason, context: Context) -> ShipmentDecision:
    """Returns the decision that the shipment gets no label.

    It recalls a label that the carrier may have sold without an answer.
    """
    failed, row = next_status(shipment, Status.FAILED, reason, context)
    events = [StatusChanged(failed, row)]
    return Decision(failed, [row, recall_unknown_sale(shipment, context)], events)


def recall_unknown_sale(shipment: Shipment, context: Context) -> RecallOpened:
    """Returns the recall of a label that the carrier may have sold for the present purchase."""
    return RecallOpened(
        shipment_id=shipment.id,
        purchase=shipment.purchase,
        tracking_number=None,
        time=context.time,
    )


def transition(after: Shipment, old: Status | None, context: Context) -> Transition:
    """Returns the row of history of the shipment's newest version; `old` is None for its first."""
    return Transition(
        shipment_id=after.id,
        version=after.version,
        old=old,
        new=after.status,
        reason=after.reason,
        actor=context.actor,
        cause=context.cause,
        time=after.update_time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )


def cannot_become(shipment: Shipment, new: Status) -> Refused:
    return illegal(
        f"A shipment that is {shipment.status} cannot become {new}.",
        shipment.status,
        MOVES[shipment.status],
    )
