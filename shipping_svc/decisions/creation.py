"""A fulfilment is ready: its shipment, and other parcels for it while no label is bought. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Exists
from chassis.versions import check_jump
from shipping_svc.decisions.steps import Decided, on_the_spot, transition, unheard_of
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import AskForShipment
from shipping_svc.model.records import Shipment


def ask(shipment: Shipment | None, command: AskForShipment, now: datetime) -> Decided:
    """The intent, before any label is bought: after a crash it says what is still to be done. A
    fulfilment has one shipment.
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
        return repack(shipment, command, now)
    shipment = Shipment(
        id=command.target,
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
        create_time=now,
        update_time=now,
        report_time=None,
        deliver_time=None,
        fulfillment_version=wanted.fulfillment_version,
        parcels=wanted.parcels,
    )
    return Decision(shipment, [transition(shipment, None, command)])


def repack(shipment: Shipment, command: AskForShipment, now: datetime) -> Decided:
    """The shipment with the parcels of the newest ask, as long as no label is bought; what was
    bought for others is not wanted any more.

    A label that is known to be bought is for what it is for.
    """
    wanted = command.wanted
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
    again = replace(after, purchase=shipment.purchase + 1)
    after, row = on_the_spot(again, Reason.REPACKED, command, now)
    return Decision(after, [row, unheard_of(shipment, now)])
