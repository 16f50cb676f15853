"""What may be asked of an order's returns. Their target is the order: returns are decided under
its lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from order_svc.lifecycle import Disposition, ReturnStatus
from order_svc.model.commands import Command, OrderCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class OfReturn(Command):
    """What is asked of one return; `expected_version` is the return's, or the order's where the
    return is still to be made.
    """

    return_id: UUID
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateReturn(OfReturn):
    """Units by line are to come back."""

    lines: Mapping[int, int]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWithoutGoods(OfReturn):
    """Units by line are refunded without coming back; what happens to stock happens at
    `warehouse_id`.
    """

    lines: Mapping[int, tuple[int, Disposition]]
    reason: str = ""
    warehouse_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReturn(OfReturn):
    """Approved, rejected, on its way or called off."""

    to: ReturnStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveReturn(OfReturn):
    """So many more units by line have arrived."""

    warehouse_id: str
    lines: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """Units of a line that were just inspected; `unrefunded` of them are not to be refunded."""

    passed: int
    failed: int
    unrefunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectReturn(OfReturn):
    """So many more units by line were looked at."""

    lines: Mapping[int, Findings]


ReturnCommand = CreateReturn | RefundWithoutGoods | MoveReturn | ReceiveReturn | InspectReturn
AnyCommand = OrderCommand | ReturnCommand
