"""Which fulfilments a list shows."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from fulfillment_svc.lifecycle import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentFilter:
    """Which fulfilments a list shows; None and empty: any."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: frozenset[Status] = frozenset()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
