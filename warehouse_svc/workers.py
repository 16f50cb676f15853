"""Timers: what the warehouse service does without being asked."""

from collections.abc import Coroutine
from typing import Any

from chassis.process import every
from warehouse_svc.operations import Operations


def expire_reservations(operations: Operations, sweep_s: float) -> Coroutine[Any, Any, None]:
    """Takes back what is reserved past its time. Every replica looks; what one has taken back, another finds done."""
    return every(sweep_s, operations.expire_reservations, "expiry")
