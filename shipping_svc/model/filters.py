"""The filters of lists. A field that is None or empty matches every row."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shipping_svc.lifecycle import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentFilter:
    """The shipments that a list shows."""

    order_id: UUID | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    statuses: tuple[Status, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
