"""Which shipments a list shows."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shipping_svc.lifecycle import Status


@dataclass(frozen=True, slots=True)
class ShipmentFilter:
    """Which shipments a list shows; what is None or empty filters nothing."""

    order_id: UUID | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    statuses: tuple[Status, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
