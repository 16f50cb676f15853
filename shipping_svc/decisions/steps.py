"""How a shipment changes: its next version and its row of history. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused, illegal
from shipping_svc.lifecycle import MOVES, Reason, Status
from shipping_svc.model.commands import Command
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallOpened, Row, Shipment, Transition

Decided = Decision[Shipment, Row]


def on_the_spot(
    shipment: Shipment, reason: Reason, command: Command, now: datetime
) -> tuple[Shipment, Transition]:
    """The shipment one version on in its status, and its row of history."""
    after = replace(shipment, reason=reason, version=shipment.version + 1, update_time=now)
    return after, transition(after, after.status, command)


def step(
    shipment: Shipment,
    new: Status,
    reason: Reason,
    command: Command,
    now: datetime,
) -> tuple[Shipment, Transition]:
    """The shipment one status and one version on, and its row of history. Refused where the
    table has no such move.
    """
    if new not in MOVES[shipment.status]:
        raise cannot_become(shipment, new)
    after = replace(
        shipment, status=new, reason=reason, version=shipment.version + 1, update_time=now
    )
    return after, transition(after, shipment.status, command)


def fail(shipment: Shipment, reason: Reason, command: Command, now: datetime) -> Decided:
    """There will be no label. One may have been sold, and the word of it be lost or under way:
    the carrier takes it back.
    """
    failed, row = step(shipment, Status.FAILED, reason, command, now)
    return Decision(failed, [row, unheard_of(shipment, now)], [StatusChanged(failed, row)])


def unheard_of(shipment: Shipment, now: datetime) -> RecallOpened:
    """The recall of what the present purchase may have bought, as far as we know nothing."""
    return RecallOpened(shipment.id, shipment.purchase, None, now)


def transition(after: Shipment, old: Status | None, command: Command) -> Transition:
    """The row of history of the shipment's newest version; `old` is None for its first."""
    return Transition(
        shipment_id=after.id,
        version=after.version,
        old=old,
        new=after.status,
        reason=after.reason,
        actor=command.actor,
        cause=command.cause,
        time=after.update_time,
        claimed_actor=command.claimed_actor,
        note=command.note,
    )


def cannot_become(shipment: Shipment, new: Status) -> Refused:
    return illegal(
        f"A shipment that is {shipment.status} cannot become {new}.",
        shipment.status,
        MOVES[shipment.status],
    )
