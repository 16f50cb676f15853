"""Refusals of shipments and labels. Pure."""

from chassis.values.errors import Refused, illegal
from shipping_svc.lifecycle import MOVES, Reason, Status
from shipping_svc.model.records import CJK_SCRIPTS, Shipment, ShipmentRequest

# The reasons for which a carrier sells no label, now or later.
LABEL_REFUSAL_REASONS = frozenset({Reason.CARRIER_REFUSED, Reason.LABEL_NOT_PRINTABLE})


def refusal(shipment: Shipment, *, cjk_installed: bool = True) -> Refused | None:
    """Returns why the shipment never gets a label; None where it has one, or may get one.

    `cjk_installed`: the font of the extra `cjk` is installed.
    """
    if shipment.status is not Status.FAILED:
        return None
    if shipment.reason == Reason.LABEL_NOT_PRINTABLE:
        return not_printable_refusal(shipment, cjk_installed)
    if shipment.reason == Reason.CARRIER_REFUSED:
        code = shipment.carrier_code or ""
        text = f"{shipment.carrier} refuses the shipment: {code}."
        return Refused(
            "CARRIER_REFUSED",
            text,
            carrier=shipment.carrier,
            carrier_code=code,
            shipment_id=str(shipment.id),
        )
    if shipment.reason == Reason.TRACKING_NUMBER_IN_USE:
        text = f"{shipment.carrier} sold a tracking number that another of its live shipments has."
        return Refused(
            "TRACKING_NUMBER_IN_USE", text, carrier=shipment.carrier, shipment_id=str(shipment.id)
        )
    is_closed = shipment.reason in (Reason.ORDER_CLOSED, Reason.FULFILLMENT_CANCELLED)
    return closed_refusal(shipment, shipment.reason) if is_closed else no_label_refusal(shipment)


def not_printable_refusal(shipment: Shipment, cjk_installed: bool) -> Refused:
    """Returns the refusal of an address that no installed font prints.

    It names the scripts, and no part of the address. It advises the extra `cjk` where that prints
    all of them.
    """
    scripts = shipment.carrier_code or ""
    advice = "Have the recipient written in Latin, Greek or Cyrillic letters"
    if not cjk_installed and CJK_SCRIPTS.issuperset(scripts.split(", ")):
        advice = "Install the extra `cjk` (pip install 'ordermesh[cjk]') and restart shipping"
    text = (
        f"No installed font prints the recipient's script ({scripts}). {advice}; then cancel this"
        " order, and place it again."
    )
    return Refused(
        "LABEL_NOT_PRINTABLE",
        text,
        carrier=shipment.carrier,
        scripts=scripts,
        shipment_id=str(shipment.id),
    )


def no_label_refusal(shipment: Shipment) -> Refused:
    """Returns the refusal of a label that is not bought yet, or void."""
    return illegal(
        f"The shipment is {shipment.status}: there is no label.",
        shipment.status,
        MOVES[shipment.status],
    )


def closed_refusal(shipment: Shipment | ShipmentRequest, reason: str) -> Refused:
    """Returns the refusal to ship for a closed order or a cancelled fulfilment."""
    if reason == Reason.ORDER_CLOSED:
        return Refused(
            "ORDER_CLOSED",
            "The order is closed: shipping ships nothing for it.",
            order_id=str(shipment.order_id),
        )
    return illegal(
        "The fulfilment is cancelled: shipping ships nothing for it.",
        "cancelled",
        fulfillment_id=str(shipment.fulfillment_id),
    )
