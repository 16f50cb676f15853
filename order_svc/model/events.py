"""The domain events of the order service."""

from dataclasses import dataclass

from order_svc.model.records import Order, Transition
from order_svc.model.returns import Return, ReturnStep


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The order changed its status: the step, and the order after it."""

    order: Order
    step: Transition


@dataclass(frozen=True, slots=True)
class ItemsCancelled:
    """Units were cancelled: the row of history, and the order after it."""

    order: Order
    step: Transition


@dataclass(frozen=True, slots=True)
class ReturnChanged:
    """A return has a new version: the step, and the return after it."""

    order_return: Return
    step: ReturnStep
