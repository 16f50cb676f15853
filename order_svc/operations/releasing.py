"""Releases at once the stock of cancelled orders. A warehouse that cannot be reached releases the
stock later, when it consumes the order's event. The stock of an order that was not placed has no
event: it is released when its reservation expires.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import deadline
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Failure
from order_svc.lifecycle import Status
from order_svc.model.records import Order
from order_svc.peers import Warehouse

BACK_OFF_S = (0.1, 0.2)  # between three tries; gRPC's own retry is off for these methods
MARGIN_S = 0.1  # what is kept of the caller's time: a cancellation that is decided is answered
_log = structlog.get_logger(__name__)


class StockReleaser:
    """Three tries for each set of orders, fewer where the caller's time is over. What still
    fails is counted, and no cancellation fails.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._failures = telemetry.counter(
            "order_release_failures_total", "Orders whose stock was not released at once"
        )

    async def release(self, attempts: Sequence[tuple[UUID, int]]) -> None:
        """Releases the reservations of these attempts of orders, in one call for all: 500 at most,
        which is more than a set has.
        """
        remaining, request_id = list(attempts), uuid7()
        for pause_s in (0.0, *BACK_OFF_S):
            time_s = deadline.remaining()
            if not remaining or (pause_s and time_s is not None and time_s < pause_s + MARGIN_S):
                break
            await asyncio.sleep(pause_s)
            try:
                again = await self._warehouse.release(request_id, remaining)
            except Failure:
                continue  # the order's event, or the reservation's end, releases the stock later
            remaining = [attempt for attempt in remaining if attempt[0] in again]
        if remaining:
            self._failures.inc(len(remaining))
            _log.warning("stock not released", orders=len(remaining), first=str(remaining[0][0]))

    async def release_cancelled(self, outcomes: Sequence[Outcome[Order]]) -> None:
        """Releases the stock of the orders that these writes have just cancelled."""
        made = [o.record for o in outcomes if isinstance(o, Done) and not (o.repeat or o.skipped)]
        cancelled = [order for order in made if order.status is Status.CANCELLED]
        await self.release([(order.id, order.attempt) for order in cancelled])
