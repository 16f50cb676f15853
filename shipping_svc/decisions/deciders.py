"""What a shipment becomes by a command."""

from datetime import datetime

from chassis.errors import NotFound
from shipping_svc.decisions.creation import ask
from shipping_svc.decisions.labels import give_up, keep_label
from shipping_svc.decisions.recalls import cancel, keep_recall, recall, withdraw
from shipping_svc.decisions.reports import record_report
from shipping_svc.decisions.steps import Decided
from shipping_svc.model.commands import (
    AskForShipment,
    Cancel,
    Close,
    GiveUp,
    KeepLabel,
    KeepRecall,
    RecordReport,
    ShipmentCommand,
    Withdraw,
)
from shipping_svc.model.records import Shipment


def decide(shipment: Shipment | None, command: ShipmentCommand, now: datetime) -> Decided:
    """What becomes of the shipment; raises a Failure where nothing may. The same record back:
    the command is skipped.
    """
    if isinstance(command, AskForShipment):
        return ask(shipment, command, now)
    if shipment is None:
        raise NotFound(
            "SHIPMENT_NOT_FOUND",
            f"There is no shipment {command.target}.",
            shipment_id=str(command.target),
        )
    match command:
        case KeepLabel():
            return keep_label(shipment, command, now)
        case GiveUp():
            return give_up(shipment, command, now)
        case RecordReport():
            return record_report(shipment, command, now)
        case Cancel():
            return cancel(shipment, command, now)
        case Close():
            return recall(shipment, command.reason, command, now)
        case Withdraw():
            return withdraw(shipment, command, now)
        case KeepRecall():
            return keep_recall(shipment, command, now)
