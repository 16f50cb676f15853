"""What lists show."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_svc.lifecycle import RefundStatus, Status


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments a list shows; what is None or empty filters nothing."""

    order_id: UUID | None = None
    statuses: tuple[Status, ...] = ()
    create_time_from: datetime | None = None
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefundFilter:
    """Which refunds a list shows; what is None or empty filters nothing."""

    order_id: UUID | None = None
    payment_id: UUID | None = None
    statuses: tuple[RefundStatus, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
