"""The records of an order's returns (RMAs), with their lines and their history."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.values.money import Money
from order_svc.lifecycle import ACTIVE_RETURN_STATUSES, ReturnKind, ReturnStatus
from order_svc.model.history import StatusTransition


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnLine:
    """Units of one order line in a return. Each count is that since the start of the return.

    announced        expected
    received         arrived
    passed, failed   results of the inspection
    written_off      refunded without goods
    unrefunded       inspected, and not to be refunded
    refund           what the units with a result are refunded with, in minor units
    """

    number: int
    sku: str
    announced: int
    received: int = 0
    passed: int = 0
    failed: int = 0
    written_off: int = 0
    unrefunded: int = 0
    refund: int = 0

    @property
    def inspected(self) -> int:
        """Units with a result: passed, failed or written off."""
        return self.passed + self.failed + self.written_off

    @property
    def refundable(self) -> int:
        """Units with a result that are to be refunded."""
        return self.inspected - self.unrefunded


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A return as it stands. Amounts are minor units of `currency`, the order's. `warehouse_id`:
    where the goods have arrived.
    """

    id: UUID
    order_id: UUID
    order_number: str
    currency: str
    attempt: int
    kind: ReturnKind
    status: ReturnStatus
    status_reason: str
    reason: str
    warehouse_id: str | None
    refunded: int
    version: int
    create_time: datetime
    update_time: datetime
    lines: tuple[ReturnLine, ...] = ()

    @property
    def refund(self) -> int:
        """What the inspected units are to be refunded with, so far."""
        return sum(line.refund for line in self.lines)

    @property
    def active(self) -> bool:
        """Its units are still to arrive or to be inspected."""
        return self.status in ACTIVE_RETURN_STATUSES

    def held(self, number: int) -> int:
        """Units of the order's line that no other return may have: what is announced or has
        arrived, later the units with a result.
        """
        if self.status in (ReturnStatus.REJECTED, ReturnStatus.CANCELLED):
            return 0
        line = self.line(number)
        return max(line.announced, line.received) if self.active else line.inspected

    def line(self, number: int) -> ReturnLine:
        """Its units of the order's line; none where it has none."""
        return next(
            (line for line in self.lines if line.number == number),
            ReturnLine(number=number, sku="", announced=0),
        )

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnTransition(StatusTransition[ReturnStatus]):
    """A row of a return's history."""

    return_id: UUID
