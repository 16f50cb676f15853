"""The carrier sells a label, or none. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from shipping_svc.decisions.steps import Decided, fail, step
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import GiveUp, KeepLabel
from shipping_svc.model.events import Created, StatusChanged
from shipping_svc.model.records import KeptLabel, RecallOpened, Shipment


def keep_label(shipment: Shipment, command: KeepLabel, now: datetime) -> Decided:
    """The label of the present purchase makes it created; it fails where another live shipment
    has the tracking number.
    """
    if shipment.status is Status.FAILED or command.purchase < shipment.purchase:
        # Nobody wanted it any more, or its parcels were packed anew, while it was being sold: the
        # carrier takes it back.
        return Decision(
            shipment,
            [RecallOpened(shipment.id, command.purchase, command.label.tracking_number, now)],
        )
    if shipment.status is not Status.PENDING:
        # another replica was as quick; the carrier sold the same label twice, for one key
        return Decision(shipment)
    if command.label.tracking_number in shipment.rivals:
        # Reports could not tell the two apart. The label goes back by its purchase: its number
        # would name the other's.
        return fail(shipment, Reason.TRACKING_NUMBER_IN_USE, command, now)
    bought = replace(shipment, tracking_number=command.label.tracking_number)
    created, row = step(bought, Status.CREATED, Reason.LABEL_BOUGHT, command, now)
    return Decision(created, [row, KeptLabel(created.id, command.label)], [Created(created, row)])


def give_up(shipment: Shipment, command: GiveUp, now: datetime) -> Decided:
    """No more than what was offered is refused: what was packed since has its own try."""
    if shipment.status is not Status.PENDING or command.purchase not in (None, shipment.purchase):
        return Decision(shipment)
    if command.purchase is None:
        return fail(shipment, command.reason, command, now)
    refused = replace(shipment, carrier_code=command.carrier_code)
    failed, row = step(refused, Status.FAILED, command.reason, command, now)
    return Decision(failed, [row], [StatusChanged(failed, row)])
