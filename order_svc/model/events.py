"""The domain events of the order service."""

from dataclasses import dataclass

from order_svc.model.records import Order, Transition
from order_svc.model.returns import Return, ReturnTransition


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The order changed its status: the transition, and the order after it."""

    order: Order
    transition: Transition


@dataclass(frozen=True, slots=True)
class ItemsCancelled:
    """Units were cancelled: the transition, and the order after it."""

    order: Order
    transition: Transition


@dataclass(frozen=True, slots=True)
class ReturnChanged:
    """A return has a new version: the transition, and the return after it."""

    order_return: Return
    transition: ReturnTransition
