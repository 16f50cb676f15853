"""Orders and commands to try things on."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from chassis.money import Money
from order_svc import decisions
from order_svc.lifecycle import End, Status, Work
from order_svc.model import (
    Allocation,
    Allocations,
    CancelItems,
    CancelOrder,
    Checkout,
    Committed,
    ConfirmPayment,
    FailPayment,
    NoteFulfillment,
    NoteRefund,
    NoteReservation,
    NoteShipment,
    NoteShipmentEnd,
    Order,
    OrderCommand,
    PlaceOrder,
    Recipient,
    Unavailable,
    WantedLine,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECIPIENT = Recipient("Ada Example", ("1 Test Street",), "London", "", "N1 1AA", "GB", "", "")


def checkout(*lines: WantedLine, **fields: Any) -> Checkout:
    values: dict[str, Any] = {
        "currency": "GBP",
        "lines": lines or (WantedLine("LAMP", 3, 1000, 100, 200), WantedLine("BULB", 2, 50, 0, 0)),
        "discount": 0,
        "tax": 0,
        "shipping": 495,
        "customer_id": None,
        "external_reference": None,
        "recipient": RECIPIENT,
    }
    return Checkout(**(values | fields))


def allocations(of: Checkout, *warehouses: str) -> Allocations:
    """Line n from the nth warehouse, round and round."""
    at = {warehouse: uuid4() for warehouse in warehouses or ("london",)}
    names = list(at)
    return {
        number: (Allocation(name := names[(number - 1) % len(names)], at[name], line.quantity),)
        for number, line in enumerate(of.lines, 1)
    }


def base(order_id: UUID) -> dict[str, Any]:
    cause = str(uuid4())
    return {
        "key": f"test:{cause}",
        "digest": b"",
        "target": order_id,
        "actor": "test",
        "cause": cause,
    }


def place(of: Checkout | None = None, *warehouses: str) -> PlaceOrder:
    asked = of or checkout()
    return PlaceOrder(**base(uuid4()), checkout=asked, allocations=allocations(asked, *warehouses))


def placed(of: Checkout | None = None, *warehouses: str) -> Order:
    return decisions.decide(None, place(of, *warehouses), NOW).record


def pay(order: Order, **fields: Any) -> ConfirmPayment:
    stock = Committed({line.number: line.allocations for line in order.lines})
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "captured": order.money(order.total),
        "not_required": order.total == 0,
        "stock": stock,
    }
    return ConfirmPayment(**base(order.id), **(values | fields))


def work(
    order: Order, warehouse_id: str, stage: Work | None, version: int, **fields: Any
) -> NoteFulfillment:
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "warehouse_id": warehouse_id,
        "fulfillment_id": uuid4(),
        "version": version,
        "work": stage,
    }
    return NoteFulfillment(**base(order.id), **(values | fields))


def report(order: Order, warehouse_id: str, stage: Work = Work.COMPLETED) -> NoteFulfillment:
    """The fulfilment's report that its parcel left with all units that the order has there."""
    there = [
        (line.number, its.quantity)
        for line in order.lines
        for its in line.allocations
        if its.warehouse_id == warehouse_id
    ]
    return work(order, warehouse_id, stage, 9, units=dict(there), committed=True)


def ship(
    order: Order, warehouse_id: str, delivered: datetime | None = None, **fields: Any
) -> NoteShipment:
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "warehouse_id": warehouse_id,
        "shipment_id": uuid4(),
        "tracking_number": "SB1",
        "deliver_time": delivered,
    }
    return NoteShipment(**base(order.id), **(values | fields))


def end(order: Order, warehouse_id: str, ended: End | None, **fields: Any) -> NoteShipmentEnd:
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "warehouse_id": warehouse_id,
        "shipment_id": uuid4(),
        "tracking_number": "SB1",
        "ended": ended,
    }
    return NoteShipmentEnd(**base(order.id), **(values | fields))


def cancel(order: Order, **fields: Any) -> CancelOrder:
    return CancelOrder(**base(order.id), **({"reason": "CUSTOMER_REQUEST"} | fields))


def cancel_items(order: Order, units: dict[int, int], **fields: Any) -> CancelItems:
    return CancelItems(**base(order.id), units=units, **({"reason": "CUSTOMER_REQUEST"} | fields))


def refund(order: Order, refunded: int, captured: int | None = None, **fields: Any) -> NoteRefund:
    """So much of the payment went back so far."""
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "captured": order.money(order.placed_total if captured is None else captured),
        "refunded": order.money(refunded),
    }
    return NoteRefund(**base(order.id), **(values | fields))


def commit(order: Order, **fields: Any) -> NoteReservation:
    """The warehouse has committed what the order was allocated; `allocations` says otherwise."""
    values: dict[str, Any] = {
        "attempt": order.attempt,
        "allocations": {line.number: line.allocations for line in order.lines},
        "refused": None,
    }
    return NoteReservation(**base(order.id), **(values | fields))


def elsewhere(order: Order, warehouse_id: str) -> Allocations:
    """All of the order from one warehouse, in a new reservation."""
    reservation_id = uuid4()
    return {
        line.number: (Allocation(warehouse_id, reservation_id, line.quantity),)
        for line in order.lines
    }


def after(order: Order, *commands: OrderCommand) -> Order:
    for command in commands:
        order = decisions.decide(order, command, NOW).record
    return order


def at(status: Status) -> Order:
    """An order that has come to that status on the way to delivered."""
    order = placed(None, "london")
    confirmed, processing = pay(order), work(order, "london", Work.PLANNING, 2)
    steps = {
        Status.PENDING: (),
        Status.CONFIRMED: (confirmed,),
        Status.PROCESSING: (confirmed, processing),
        Status.SHIPPED: (confirmed, processing, ship(order, "london")),
        Status.DELIVERED: (confirmed, processing, ship(order, "london", NOW)),
        Status.FAILED: (pay(order, stock=Unavailable("RESERVATION_EXPIRED")),),
        Status.CANCELLED: (FailPayment(**base(order.id), attempt=1),),
    }
    return after(order, *steps[status])


def pounds(minor: int) -> Money:
    return Money(minor, "GBP")
