"""Returns, and what may be asked of them, to try things on."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from order_svc import decisions
from order_svc.lifecycle import Disposition, ReturnStatus, Status
from order_svc.model import (
    AnyCommand,
    Command,
    CreateReturn,
    Findings,
    InspectReturn,
    MoveReturn,
    Order,
    ReceiveReturn,
    RefundWithoutGoods,
    Return,
    ReturnStep,
)
from tests.unit.order.samples import NOW, at, base, report

__all__ = ["NOW"]


def delivered() -> Order:
    """Line 1: three lamps for 31.00 (price 30.00, discount 1.00, tax 2.00); line 2: two bulbs
    for 1.00.
    """
    order = at(Status.DELIVERED)
    return after(order, report(order, "london"))


def cause(order: Order) -> Command:
    """Something that was told of the order."""
    return Command(**base(order.id))


def ask(order: Order, lines: Mapping[int, int]) -> CreateReturn:
    return CreateReturn(**base(order.id), return_id=uuid4(), lines=lines, reason="WRONG_SIZE")


def ask_money(
    order: Order, lines: Mapping[int, tuple[int, Disposition]], warehouse_id: str | None = "london"
) -> RefundWithoutGoods:
    return RefundWithoutGoods(
        **base(order.id), return_id=uuid4(), lines=lines, warehouse_id=warehouse_id
    )


def move(rma: Return, to: ReturnStatus) -> MoveReturn:
    return MoveReturn(**base(rma.order_id), return_id=rma.id, to=to, reason=f"RETURN_{to.upper()}")


def receive(rma: Return, lines: Mapping[int, int], warehouse_id: str = "london") -> ReceiveReturn:
    return ReceiveReturn(
        **base(rma.order_id), return_id=rma.id, warehouse_id=warehouse_id, lines=lines
    )


def inspect(rma: Return, lines: Mapping[int, tuple[int, int, int]]) -> InspectReturn:
    """By line: passed, failed, and how many of them are not to be refunded."""
    return InspectReturn(
        **base(rma.order_id),
        return_id=rma.id,
        lines={number: Findings(*found) for number, found in lines.items()},
    )


def after(order: Order, *commands: AnyCommand) -> Order:
    for command in commands:
        order = decisions.decide(order, command, NOW).record
    return order


def walked(decision: decisions.Decided) -> list[ReturnStep]:
    """The steps that returns took."""
    return [row for row in decision.history if isinstance(row, ReturnStep)]


def returned(order: Order, lines: Mapping[int, int]) -> Order:
    """The order with one more return, requested."""
    return after(order, ask(order, lines))


def arrived(order: Order, announced: Mapping[int, int], **fields: Any) -> tuple[Order, Return]:
    """The order with one more return, all of which has arrived, and that return."""
    order = returned(order, announced)
    rma = order.rmas[-1]
    order = after(order, move(rma, ReturnStatus.APPROVED), receive(rma, announced, **fields))
    return order, order.rmas[-1]
