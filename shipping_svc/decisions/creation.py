"""The shipment of a ready fulfilment, and newer parcels until its label is bought. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Exists
from chassis.values.versions import check_jump
from shipping_svc.decisions.transitions import (
    ShipmentDecision,
    next_version,
    recall_unknown_sale,
    transition,
)
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import CreateShipment
from shipping_svc.model.records import Shipment, ShipmentRequest


def create_shipment(
    shipment: Shipment | None, command: CreateShipment, context: Context
) -> ShipmentDecision:
    """Returns the pending shipment of the fulfilment, which is stored before its label is bought.

    So the sweeper finds after a crash the labels that are still to be bought. A second request for
    the fulfilment gets its shipment, with the parcels of the newer request. Raises Exists
    SHIPMENT_ALREADY_EXISTS where the shipment is of another order, attempt or warehouse.
    """
    request = command.request
    stored = shipment.fulfillment_version if shipment else command.stored_version
    check_jump(stored, request.fulfillment_version, f"Fulfilment {request.fulfillment_id}")
    if shipment:
        if (shipment.order_id, shipment.attempt, shipment.warehouse_id) != (
            request.order_id,
            request.attempt,
            request.warehouse_id,
        ):
            text = (
                f"Fulfilment {shipment.fulfillment_id} has a shipment of another order, attempt or"
                " warehouse."
            )
            raise Exists("SHIPMENT_ALREADY_EXISTS", text, shipment_id=str(shipment.id))
        return repack(shipment, request, context)
    shipment = Shipment(
        id=context.target,
        order_id=request.order_id,
        attempt=request.attempt,
        fulfillment_id=request.fulfillment_id,
        warehouse_id=request.warehouse_id,
        status=Status.PENDING,
        reason=Reason.FULFILLMENT_READY,
        carrier=command.carrier,
        carrier_code=None,
        tracking_number=None,
        version=1,
        create_time=context.time,
        update_time=context.time,
        report_time=None,
        fulfillment_version=request.fulfillment_version,
        parcels=request.parcels,
    )
    return Decision(shipment, [transition(shipment, None, context)])


def repack(shipment: Shipment, request: ShipmentRequest, context: Context) -> ShipmentDecision:
    """Returns the shipment with newer parcels; with its own where it is not pending any more.

    Other parcels are another purchase: a label that the carrier may have sold for the older one is
    recalled.
    """
    if (
        shipment.status is not Status.PENDING
        or request.fulfillment_version <= shipment.fulfillment_version
    ):
        return Decision(shipment)
    after = replace(
        shipment, parcels=request.parcels, fulfillment_version=request.fulfillment_version
    )
    if after.parcels == shipment.parcels:
        return Decision(after)
    after, row = next_version(after, Reason.REPACKED, context, purchase=shipment.purchase + 1)
    return Decision(after, [row, recall_unknown_sale(shipment, context)])
