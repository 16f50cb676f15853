"""Labels that the carrier sells, and its refusals. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from shipping_svc.decisions.transitions import ShipmentDecision, fail_shipment, next_status
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import FailLabel, RecordLabel
from shipping_svc.model.events import Created, StatusChanged
from shipping_svc.model.records import BoughtLabel, RecallOpened, Shipment


def record_label(shipment: Shipment, command: RecordLabel, context: Context) -> ShipmentDecision:
    """Returns the shipment with the label of its present purchase.

    The shipment fails where another live shipment has the tracking number. A label that came too
    late is recalled.
    """
    number = command.label.tracking_number
    if shipment.status is Status.FAILED or command.purchase < shipment.purchase:
        # The shipment failed, or its parcels were packed again, during the sale.
        recall = RecallOpened(
            shipment_id=shipment.id,
            purchase=command.purchase,
            tracking_number=number,
            time=context.time,
        )
        return Decision(shipment, [recall])
    if shipment.status is not Status.PENDING:
        # Another replica has stored the label: the carrier sells one label for one key.
        return Decision(shipment)
    if number in shipment.tracking_number_holders:
        # A report could be about either shipment. The recall names the purchase, because the number
        # would name the other shipment.
        return fail_shipment(shipment, Reason.TRACKING_NUMBER_IN_USE, context)
    created, row = next_status(
        shipment, Status.CREATED, Reason.LABEL_BOUGHT, context, tracking_number=number
    )
    return Decision(created, [row, BoughtLabel(created.id, command.label)], [Created(created, row)])


def fail_label(shipment: Shipment, command: FailLabel, context: Context) -> ShipmentDecision:
    """Returns the failed shipment. The refusal of an older purchase changes nothing."""
    if shipment.status is not Status.PENDING or command.purchase not in (None, shipment.purchase):
        return Decision(shipment)
    if command.purchase is None:
        return fail_shipment(shipment, command.reason, context)
    failed, row = next_status(
        shipment, Status.FAILED, command.reason, context, carrier_code=command.carrier_code
    )
    return Decision(failed, [row], [StatusChanged(failed, row)])
