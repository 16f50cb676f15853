"""The tables of deciders, one for each kind of record, and what several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import NotFound
from shipping_svc.decisions.closing import bury, bury_fulfillment
from shipping_svc.decisions.creation import ask
from shipping_svc.decisions.labels import give_up, keep_label
from shipping_svc.decisions.recalls import cancel, keep_recall, recall, withdraw
from shipping_svc.decisions.reports import record_report
from shipping_svc.decisions.steps import Decided
from shipping_svc.model.commands import (
    AskForShipment,
    BuryFulfillment,
    BuryOrder,
    Cancel,
    Close,
    GiveUp,
    KeepLabel,
    KeepRecall,
    RecordReport,
    Withdraw,
)
from shipping_svc.model.records import DeadFulfillment, DeadOrder, Row, Shipment

C = TypeVar("C")


def of_shipment(verb: Callable[[Shipment, C, Context], Decided]) -> Decider[Shipment, Row]:
    """Returns the decider of a command about a shipment that exists.

    The decider raises NotFound SHIPMENT_NOT_FOUND where there is none.
    """

    @wraps(verb)
    def decide(shipment: Shipment | None, command: C, context: Context) -> Decided:
        if shipment is None:
            text = f"There is no shipment {context.target}."
            raise NotFound("SHIPMENT_NOT_FOUND", text, shipment_id=str(context.target))
        return verb(shipment, command, context)

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[Shipment, Row]]] = {
    AskForShipment: ask,
    KeepLabel: of_shipment(keep_label),
    GiveUp: of_shipment(give_up),
    RecordReport: of_shipment(record_report),
    Cancel: of_shipment(cancel),
    Close: of_shipment(recall),
    Withdraw: of_shipment(withdraw),
    KeepRecall: of_shipment(keep_recall),
}
ORDER_DECIDERS: Final[Mapping[type[Any], Decider[DeadOrder, None]]] = {BuryOrder: bury}
FULFILLMENT_DECIDERS: Final[Mapping[type[Any], Decider[DeadFulfillment, None]]] = {
    BuryFulfillment: bury_fulfillment,
}

decide = decider(DECIDERS)
decide_order = decider(ORDER_DECIDERS)
decide_fulfillment = decider(FULFILLMENT_DECIDERS)
