"""A fulfilment is ready: its shipment, and other parcels for it while no label is bought. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Exists
from chassis.values.versions import check_jump
from shipping_svc.decisions.steps import Decided, changed, transition, unknown_sale
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import AskForShipment
from shipping_svc.model.records import Shipment, Wanted


def ask(shipment: Shipment | None, command: AskForShipment, context: Context) -> Decided:
    """The pending shipment of the fulfilment, stored before any label is bought.

    So a worker finds after a crash what is still to be bought. A second request for the fulfilment
    gets its shipment, with the parcels of the newer request.
    Raises Exists SHIPMENT_ALREADY_EXISTS where the shipment is of another order or warehouse.
    """
    wanted = command.wanted
    stored = shipment.fulfillment_version if shipment else command.stored_version
    check_jump(stored, wanted.fulfillment_version, f"Fulfilment {wanted.fulfillment_id}")
    if shipment:
        if (shipment.order_id, shipment.attempt, shipment.warehouse_id) != (
            wanted.order_id,
            wanted.attempt,
            wanted.warehouse_id,
        ):
            text = (
                f"Fulfilment {shipment.fulfillment_id} has a shipment, of another order or"
                " warehouse."
            )
            raise Exists("SHIPMENT_ALREADY_EXISTS", text, shipment_id=str(shipment.id))
        return repack(shipment, wanted, context)
    shipment = Shipment(
        id=context.target,
        order_id=wanted.order_id,
        attempt=wanted.attempt,
        fulfillment_id=wanted.fulfillment_id,
        warehouse_id=wanted.warehouse_id,
        status=Status.PENDING,
        reason=Reason.FULFILLMENT_READY,
        carrier=command.carrier,
        carrier_code=None,
        tracking_number=None,
        version=1,
        create_time=context.time,
        update_time=context.time,
        report_time=None,
        deliver_time=None,
        fulfillment_version=wanted.fulfillment_version,
        parcels=wanted.parcels,
    )
    return Decision(shipment, [transition(shipment, None, context)])


def repack(shipment: Shipment, wanted: Wanted, context: Context) -> Decided:
    """The shipment with newer parcels, as long as it has no label.

    Other parcels are another purchase. The carrier takes back what it may have sold for the older
    one.
    """
    if (
        shipment.status is not Status.PENDING
        or wanted.fulfillment_version <= shipment.fulfillment_version
    ):
        return Decision(shipment)
    after = replace(
        shipment, parcels=wanted.parcels, fulfillment_version=wanted.fulfillment_version
    )
    if after.parcels == shipment.parcels:
        return Decision(after)
    after, row = changed(after, Reason.REPACKED, context, purchase=shipment.purchase + 1)
    return Decision(after, [row, unknown_sale(shipment, context)])
