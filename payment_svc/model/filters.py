"""The filters of lists."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_svc.lifecycle import RefundStatus, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """The filters that both lists have; None and empty: any."""

    order_id: UUID | None = None
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter(ListFilter):
    """Which payments a list shows."""

    statuses: tuple[Status, ...] = ()
    create_time_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFilter(ListFilter):
    """Which refunds a list shows."""

    payment_id: UUID | None = None
    statuses: tuple[RefundStatus, ...] = ()
