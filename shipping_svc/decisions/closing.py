"""Orders and fulfilments that nothing is shipped for any more. Pure."""

from datetime import datetime

from chassis.decision import Decision
from chassis.versions import check_jump
from shipping_svc.model.commands import BuryFulfillment, BuryOrder
from shipping_svc.model.records import DeadFulfillment, DeadOrder


def bury_fulfillment(
    fulfillment: DeadFulfillment | None, command: BuryFulfillment, now: datetime
) -> Decision[DeadFulfillment, None]:
    """Remembers that a fulfilment is cancelled: it never lives again."""
    check_jump(
        fulfillment.version if fulfillment else 0, command.version, f"Fulfilment {command.target}"
    )
    return Decision(fulfillment or DeadFulfillment(command.target, command.version, now))


def bury(order: DeadOrder | None, command: BuryOrder, now: datetime) -> Decision[DeadOrder, None]:
    """Remembers an order's last death. Life is not noted: a later attempt is not dead, whatever
    the earlier ones are.
    """
    check_jump(order.version if order else 0, command.version, f"Order {command.target}")
    if order and command.version <= order.version:
        return Decision(order)
    return Decision(
        DeadOrder(command.target, command.attempt, command.status, command.version, now)
    )
