"""Timers: what the shipping service does without being asked."""

from collections.abc import Coroutine
from typing import Any

from chassis.process import every
from shipping_svc.operations import Operations


def buy_waiting_labels(operations: Operations, sweep_s: float) -> Coroutine[Any, Any, None]:
    """Labels that a crash, or a carrier that was away, has left to be bought. Every replica looks; no two take on the same."""
    return every(sweep_s, operations.buy_waiting_labels, "labels")
