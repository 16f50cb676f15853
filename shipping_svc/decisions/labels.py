"""The carrier sells a label, or none. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from shipping_svc.decisions.steps import Decided, fail, step
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import GiveUp, KeepLabel
from shipping_svc.model.events import Created, StatusChanged
from shipping_svc.model.records import KeptLabel, RecallOpened, Shipment


def keep_label(shipment: Shipment, command: KeepLabel, context: Context) -> Decided:
    """The shipment with the label of its present purchase.

    It fails where another live shipment has the tracking number.
    """
    number = command.label.tracking_number
    if shipment.status is Status.FAILED or command.purchase < shipment.purchase:
        # The shipment failed, or its parcels were packed anew, during the sale: the carrier takes
        # the label back.
        sold = RecallOpened(
            shipment_id=shipment.id,
            purchase=command.purchase,
            tracking_number=number,
            time=context.time,
        )
        return Decision(shipment, [sold])
    if shipment.status is not Status.PENDING:
        # another replica was as quick; the carrier sold the same label twice, for one key
        return Decision(shipment)
    if number in shipment.rivals:
        # Reports could not tell the two apart. The label goes back by its purchase: its number
        # would name the other's.
        return fail(shipment, Reason.TRACKING_NUMBER_IN_USE, context)
    created, row = step(
        shipment, Status.CREATED, Reason.LABEL_BOUGHT, context, tracking_number=number
    )
    return Decision(created, [row, KeptLabel(created.id, command.label)], [Created(created, row)])


def give_up(shipment: Shipment, command: GiveUp, context: Context) -> Decided:
    """The failed shipment. Where the carrier refused an older purchase nothing changes."""
    if shipment.status is not Status.PENDING or command.purchase not in (None, shipment.purchase):
        return Decision(shipment)
    if command.purchase is None:
        return fail(shipment, command.reason, context)
    failed, row = step(
        shipment, Status.FAILED, command.reason, context, carrier_code=command.carrier_code
    )
    return Decision(failed, [row], [StatusChanged(failed, row)])
