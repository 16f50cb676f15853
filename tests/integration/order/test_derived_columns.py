"""The columns of orders that are properties of the record."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from order_svc.app import Operations
from order_svc.lifecycle import FulfillmentState, ReturnStatus
from order_svc.model.commands import (
    CommitPending,
    CommitRefused,
    FailPayment,
    RetryOrder,
)
from order_svc.model.records import Order
from order_svc.tables import orders
from tests.support import property_columns
from tests.unit.order.returns import ask, inspect, move, receive
from tests.unit.order.samples import (
    NOW,
    cancel,
    cancel_items,
    commit,
    fulfillment_status,
    of_attempt,
    of_order,
    pay,
    place,
    refund,
    report,
    ship,
)

# Makes the next command for the order as it stands.
Step = Callable[[Order], Envelope[Any]]
RETURNED: tuple[Step, ...] = (
    lambda order: ask(order, {1: 2}),
    lambda order: move(order.returns[0], ReturnStatus.APPROVED),
    lambda order: receive(order.returns[0], {1: 2}),
    lambda order: inspect(order.returns[0], {1: (2, 0, 0)}),
)
DELIVERED: tuple[Step, ...] = (
    pay,
    lambda order: ship(order, "london"),
    lambda order: ship(order, "leeds", NOW),
    lambda order: report(order, "leeds"),
    lambda order: ship(order, "london", NOW),
    lambda order: report(order, "london"),
)
LIVES: dict[str, tuple[Step, ...]] = {
    "returned": (
        lambda order: cancel_items(order, {1: 1}),
        *DELIVERED,
        *RETURNED,
        lambda order: refund(order, 100),
        lambda order: refund(order, order.captured),
    ),
    "recalled": (*DELIVERED[:2], lambda order: report(order, "london"), cancel),
    "freed": (
        lambda order: pay(order, stock=CommitPending()),
        commit,
        cancel,
        lambda order: commit(order, allocations={}, freed=True),
    ),
    "refused": (
        lambda order: pay(order, stock=CommitPending()),
        lambda order: commit(order, allocations={}, refused="RESERVATION_EXPIRED"),
    ),
    "stopped": (
        pay,
        cancel,
        *(
            lambda order, at=at: fulfillment_status(order, at, FulfillmentState.CANCELLED, 3)
            for at in ("london", "leeds")
        ),
    ),
    "not paid": (lambda order: of_attempt(FailPayment, order),),
    "retried": (
        lambda order: pay(order, stock=CommitRefused("RESERVATION_EXPIRED")),
        lambda order: of_order(
            RetryOrder,
            order,
            attempt=2,
            allocations={line.number: line.allocations for line in order.lines},
        ),
    ),
}


@pytest.mark.parametrize("life", LIVES)
async def test_each_derived_column_equals_its_property(
    life: str, operations: Operations, engine: AsyncEngine
) -> None:
    """After each write of an order's life its row has, in each column that is a property of the
    record, the value of the property. The life changes some of them.
    """
    names = property_columns(Order, orders)
    seen = set()
    order: Order | None = None
    for step in (lambda _: place(None, "london", "leeds"), *LIVES[life]):
        [outcome] = await operations.writer.write([step(order)])
        assert isinstance(outcome, Done), outcome
        order = outcome.record
        async with engine.connect() as connection:
            row = (await connection.execute(select(orders))).one()._mapping
        assert {name: row[name] for name in names} == {name: getattr(order, name) for name in names}
        seen.add(tuple(row[name] for name in names))
    assert {"payment", "progress", "stock", "return_progress", "has_returns"} == set(names)
    assert len(seen) > 1
