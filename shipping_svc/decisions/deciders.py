"""The tables of deciders, one for each kind of record."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import NotFound
from shipping_svc.decisions.closing import close_fulfillment, close_order
from shipping_svc.decisions.creation import create_shipment
from shipping_svc.decisions.labels import fail_label, record_label
from shipping_svc.decisions.recalls import (
    cancel_shipment,
    close_shipment,
    record_recall_answer,
    withdraw_shipment,
)
from shipping_svc.decisions.reports import record_report
from shipping_svc.decisions.transitions import ShipmentDecision
from shipping_svc.model.commands import (
    CancelShipment,
    CloseFulfillment,
    CloseOrder,
    CloseShipment,
    CreateShipment,
    FailLabel,
    RecordLabel,
    RecordRecallAnswer,
    RecordReport,
    WithdrawShipment,
)
from shipping_svc.model.records import ClosedFulfillment, ClosedOrder, Row, Shipment

C = TypeVar("C")


def on_existing_shipment(
    decide_existing: Callable[[Shipment, C, Context], ShipmentDecision],
) -> Decider[Shipment, Row]:
    """Returns a decider that raises NotFound SHIPMENT_NOT_FOUND where there is no shipment."""

    @wraps(decide_existing)
    def decide(shipment: Shipment | None, command: C, context: Context) -> ShipmentDecision:
        if shipment is None:
            text = f"There is no shipment {context.target}."
            raise NotFound("SHIPMENT_NOT_FOUND", text, shipment_id=str(context.target))
        return decide_existing(shipment, command, context)

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[Shipment, Row]]] = {
    CreateShipment: create_shipment,
    RecordLabel: on_existing_shipment(record_label),
    FailLabel: on_existing_shipment(fail_label),
    RecordReport: on_existing_shipment(record_report),
    CancelShipment: on_existing_shipment(cancel_shipment),
    CloseShipment: on_existing_shipment(close_shipment),
    WithdrawShipment: on_existing_shipment(withdraw_shipment),
    RecordRecallAnswer: on_existing_shipment(record_recall_answer),
}
ORDER_DECIDERS: Final[Mapping[type[Any], Decider[ClosedOrder, None]]] = {CloseOrder: close_order}
FULFILLMENT_DECIDERS: Final[Mapping[type[Any], Decider[ClosedFulfillment, None]]] = {
    CloseFulfillment: close_fulfillment,
}

decide = decider(DECIDERS)
decide_order = decider(ORDER_DECIDERS)
decide_fulfillment = decider(FULFILLMENT_DECIDERS)
