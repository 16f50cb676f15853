"""Closed orders and cancelled fulfilments: shipping ships nothing for them. Pure."""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.versions import check_jump
from shipping_svc.model.commands import CloseFulfillment, CloseOrder
from shipping_svc.model.records import ClosedFulfillment, ClosedOrder


def close_fulfillment(
    fulfillment: ClosedFulfillment | None,
    command: CloseFulfillment,
    context: Context,
) -> Decision[ClosedFulfillment, None]:
    """Returns the cancelled fulfilment, which never changes."""
    stored = max(fulfillment.version if fulfillment else 0, command.stored_version)
    check_jump(stored, command.version, f"Fulfilment {context.target}")
    closed = ClosedFulfillment(context.target, command.version, context.time)
    return Decision(fulfillment or closed)


def close_order(
    order: ClosedOrder | None,
    command: CloseOrder,
    context: Context,
) -> Decision[ClosedOrder, None]:
    """Returns the order's latest closed attempt. An older version of the order changes nothing."""
    check_jump(order.version if order else 0, command.version, f"Order {context.target}")
    if order and command.version <= order.version:
        return Decision(order)
    closed = ClosedOrder(
        order_id=context.target,
        attempt=command.attempt,
        status=command.status,
        version=command.version,
        close_time=context.time,
    )
    return Decision(closed)
