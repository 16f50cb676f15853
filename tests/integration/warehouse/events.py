"""Events of other services that concern stock. No tests here."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID, uuid4

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderLine,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from ordermesh.order.v1 import order_pb2, return_pb2

from chassis.consume.delivery import Delivery
from tests.sample.contract_events import POUND
from warehouse_svc.model.records import Reservation

PENDING, CONFIRMED = order_pb2.ORDER_STATUS_PENDING, order_pb2.ORDER_STATUS_CONFIRMED
PROCESSING, CANCELLED = order_pb2.ORDER_STATUS_PROCESSING, order_pb2.ORDER_STATUS_CANCELLED
FAILED = order_pb2.ORDER_STATUS_FAILED
WORK = fulfillment_pb2.FulfillmentStatus
OrderStatus: TypeAlias = "order_pb2.OrderStatus.ValueType"
Work: TypeAlias = "fulfillment_pb2.FulfillmentStatus.ValueType"
Units: TypeAlias = int | tuple[int, int, int, int]


def delivery(message: Message) -> Delivery[Message]:
    """Returns the message as the warehouse's consumer gets it; each call makes another event."""
    event_id = uuid4()
    request_hash = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
    return Delivery(
        event_id=event_id,
        key=f"warehouse-test:{event_id}",
        request_hash=request_hash,
        message=message,
        time=datetime.now(UTC),
    )


def order_status_changed(
    order_id: UUID, old: OrderStatus, new: OrderStatus, attempt: int = 1
) -> OrderStatusChanged:
    return OrderStatusChanged(
        order_id=str(order_id),
        attempt=attempt,
        old_status=old,
        new_status=new,
        total_amount=POUND,
        order_version=2,
        items=[OrderLine(line_number=500, sku="elsewhere", quantity=1)],
        stock_status=order_pb2.STOCK_STATUS_RESERVED,
        payment_status=order_pb2.PAYMENT_STATUS_PENDING,
    )


def items_cancelled(
    order_id: UUID,
    remaining: Mapping[int, int],
    reservations: Sequence[Reservation],
    status: OrderStatus,
) -> OrderItemsCancelled:
    """Returns the event of an order that keeps these units by line, from the reservations in their
    order.
    """
    items = {number: OrderLine(line_number=number, sku="tea", quantity=9) for number in remaining}
    unallocated = dict(remaining)
    for reservation in reservations:
        for line in reservation.lines:
            units = min(unallocated[line.number], line.quantity)
            unallocated[line.number] -= units
            items[line.number].allocations.add(
                warehouse_id=reservation.warehouse_id,
                reservation_id=str(reservation.id),
                quantity=units,
            )
    return OrderItemsCancelled(
        order_id=str(order_id),
        attempt=1,
        status=status,
        total_amount=POUND,
        order_version=3,
        items=items.values(),
    )


def fulfillment(
    order_id: UUID, warehouse_id: str, status: Work, picklist: Mapping[int, Units], attempt: int = 1
) -> fulfillment_pb2.Fulfillment:
    """Returns a fulfilment with committed stock: by line the units on its picklist, all of them
    picked; or these with the cut, short and spoiled units.
    """
    lines = []
    for number, units in picklist.items():
        quantity, cut, short, spoiled = (units, 0, 0, 0) if isinstance(units, int) else units
        lines.append(
            fulfillment_pb2.PicklistLine(
                line_number=number,
                sku="tea",
                quantity=quantity,
                picked_quantity=quantity,
                cut_quantity=cut,
                short_quantity=short,
                spoiled_quantity=spoiled,
            )
        )
    return fulfillment_pb2.Fulfillment(
        fulfillment_id=str(uuid4()),
        order_id=str(order_id),
        attempt=attempt,
        warehouse_id=warehouse_id,
        status=status,
        stock_committed=True,
        picklist=lines,
        version=4,
    )


def fulfillment_status_changed(
    order_id: UUID, warehouse_id: str, status: Work, picklist: Mapping[int, Units]
) -> FulfillmentStatusChanged:
    """Returns the event that a fulfilment of these units has a new status."""
    return FulfillmentStatusChanged(
        fulfillment=fulfillment(order_id, warehouse_id, status, picklist), new_status=status
    )


def attempt_never_started(
    order_id: UUID, warehouse_id: str, picklist: Mapping[int, Units]
) -> FulfillmentStatusChanged:
    """Returns the event of a closed attempt without work: fulfilment had no record of where its
    stock was committed, and expected this warehouse.
    """
    event = fulfillment_status_changed(
        order_id, warehouse_id, WORK.FULFILLMENT_STATUS_CANCELLED, picklist
    )
    event.fulfillment.stock_committed, event.attempt_never_started = False, True
    return event


def lines_changed(
    order_id: UUID, warehouse_id: str, picklist: Mapping[int, Units]
) -> FulfillmentLinesChanged:
    """Returns the event of units that left a picklist whose work goes on."""
    return FulfillmentLinesChanged(
        fulfillment=fulfillment(order_id, warehouse_id, WORK.FULFILLMENT_STATUS_PICKING, picklist)
    )


def inspected(
    order_id: UUID, return_id: UUID, warehouse_id: str, lines: Mapping[int, tuple[int, int]]
) -> ReturnStatusChanged:
    """Returns the event of an inspected return: by line the units that passed, and those that
    failed.
    """
    found = return_pb2.Return(
        return_id=str(return_id),
        order_id=str(order_id),
        attempt=1,
        kind=return_pb2.RETURN_KIND_CUSTOMER,
        version=5,
        warehouse_id=warehouse_id,
        status=return_pb2.RETURN_STATUS_INSPECTED,
        lines=[
            return_pb2.ReturnLine(
                line_number=number, sku="tea", passed_quantity=passed, failed_quantity=failed
            )
            for number, (passed, failed) in lines.items()
        ],
    )
    return ReturnStatusChanged(order_return=found, new_status=found.status)
