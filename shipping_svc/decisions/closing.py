"""Orders and fulfilments that nothing is shipped for any more. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.versions import check_jump
from shipping_svc.model.commands import BuryFulfillment, BuryOrder
from shipping_svc.model.records import DeadFulfillment, DeadOrder


def bury_fulfillment(
    fulfillment: DeadFulfillment | None,
    command: BuryFulfillment,
    context: Context,
) -> Decision[DeadFulfillment, None]:
    """Stores that a fulfilment is cancelled, which is final."""
    stored = max(fulfillment.version if fulfillment else 0, command.stored_version)
    check_jump(stored, command.version, f"Fulfilment {context.target}")
    closed = DeadFulfillment(context.target, command.version, context.time)
    return Decision(fulfillment or closed)


def bury(
    order: DeadOrder | None,
    command: BuryOrder,
    context: Context,
) -> Decision[DeadOrder, None]:
    """Stores the order's latest closed attempt. An older version of the order changes nothing."""
    check_jump(order.version if order else 0, command.version, f"Order {context.target}")
    if order and command.version <= order.version:
        return Decision(order)
    closed = DeadOrder(
        order_id=context.target,
        attempt=command.attempt,
        status=command.status,
        version=command.version,
        dead_time=context.time,
    )
    return Decision(closed)
