"""Reports of fulfilments, and what an order has of them. No tests here."""

from typing import Any

from chassis.values.envelope import Envelope
from order_svc.lifecycle import (
    FulfillmentState,
    ReturnKind,
)
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
)
from order_svc.model.records import Order
from tests.unit.order.samples import (
    after,
    fulfillment_status,
    pay,
    placed,
)


def works_on(
    order: Order,
    stage: FulfillmentState,
    version: int,
    units: dict[int, int],
    at: str = "london",
    **fields: Any,
) -> Envelope[ApplyFulfillmentStatus]:
    """The fulfilment's stock is committed, and these are its units."""
    return fulfillment_status(
        order, at, stage, version, units=units, **({"committed": True} | fields)
    )


def two_parts() -> Order:
    """Three lamps from London, two bulbs from Paris; paid."""
    order = placed(None, "london", "paris")
    return after(order, pay(order))


def units(order: Order) -> list[tuple[int, int, list[tuple[str, int, int | None]]]]:
    """Returns for each line the cancelled units, the remaining units, and their warehouses."""
    return [
        (
            line.cancelled,
            line.remaining,
            [(a.warehouse_id, a.quantity, a.shipped) for a in line.allocations],
        )
        for line in order.lines
    ]


def recalled(order: Order) -> list[dict[int, int]]:
    """Returns the recalls of an order: announced units by line."""
    assert all(order_return.kind is ReturnKind.RECALL for order_return in order.returns)
    return [
        {line.number: line.announced for line in order_return.lines}
        for order_return in order.returns
    ]
