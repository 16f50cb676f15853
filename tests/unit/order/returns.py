"""Returns, and requests about them, for tests."""

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import uuid4

from chassis.values.envelope import Context, Envelope
from order_svc.decisions.refunds import with_refunded_return
from order_svc.decisions.transitions import Decided
from order_svc.lifecycle import Disposition, ReturnStatus, Status
from order_svc.model.commands import (
    CreateReturn,
    FailPayment,
    Findings,
    InspectReturn,
    MoveReturn,
    ReceiveReturn,
    RefundWithoutGoods,
)
from order_svc.model.records import Order
from order_svc.model.returns import Return, ReturnTransition
from tests.unit.order.samples import NOW, after, at, envelope, of_attempt, of_order, refund, report

C = TypeVar("C")


def delivered() -> Order:
    """Line 1: three lamps for 31.00 (price 30.00, discount 1.00, tax 2.00); line 2: two bulbs for
    1.00.
    """
    order = at(Status.DELIVERED)
    return after(order, report(order, "london"))


def context(order: Order) -> Context:
    """Returns the context of a report about the order."""
    return of_attempt(FailPayment, order).context(NOW)


def ask(order: Order, lines: Mapping[int, int]) -> Envelope[CreateReturn]:
    return of_order(CreateReturn, order, return_id=uuid4(), lines=lines, reason="WRONG_SIZE")


def ask_money(
    order: Order,
    lines: Mapping[int, tuple[int, Disposition]],
    warehouse_id: str | None = "london",
) -> Envelope[RefundWithoutGoods]:
    return of_order(
        RefundWithoutGoods,
        order,
        return_id=uuid4(),
        lines=lines,
        warehouse_id=warehouse_id,
    )


def of_return(kind: type[C], order_return: Return, **fields: Any) -> Envelope[C]:
    """Returns a request about the return."""
    return envelope(kind, target=order_return.order_id, return_id=order_return.id, **fields)


def move(order_return: Return, to: ReturnStatus, **fields: Any) -> Envelope[MoveReturn]:
    return of_return(
        MoveReturn, order_return, to=to, **({"reason": f"RETURN_{to.upper()}"} | fields)
    )


def receive(
    order_return: Return,
    lines: Mapping[int, int],
    warehouse_id: str = "london",
) -> Envelope[ReceiveReturn]:
    return of_return(ReceiveReturn, order_return, warehouse_id=warehouse_id, lines=lines)


def inspect(
    order_return: Return, lines: Mapping[int, tuple[int, int, int]]
) -> Envelope[InspectReturn]:
    """By line: passed, failed, and how many of them are not refunded."""
    found = {number: Findings(*counts) for number, counts in lines.items()}
    return of_return(InspectReturn, order_return, lines=found)


def settle(order: Order, order_return: Return, **fields: Any) -> Decided:
    """Decides what the return's refund, or its failure, does to the return alone."""
    asked = refund(order, order_return.refunded, return_id=order_return.id, **fields)
    return with_refunded_return(order, asked.command, asked.context(NOW))


def walked(decision: Decided) -> list[ReturnTransition]:
    """Returns the transitions of the returns."""
    return [row for row in decision.history if isinstance(row, ReturnTransition)]


def returned(order: Order, lines: Mapping[int, int]) -> Order:
    """Returns the order with one more return, requested."""
    return after(order, ask(order, lines))


def arrived(order: Order, announced: Mapping[int, int], **fields: Any) -> tuple[Order, Return]:
    """Returns the order with one more completely received return, and that return."""
    order = returned(order, announced)
    order_return = order.returns[-1]
    order = after(
        order, move(order_return, ReturnStatus.APPROVED), receive(order_return, announced, **fields)
    )
    return order, order.returns[-1]
