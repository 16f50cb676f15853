"""Orders and commands for tests."""

from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from chassis.values.envelope import Envelope
from chassis.values.money import Money
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import FulfillmentState, ShipmentOutcome, Status
from order_svc.model.checkout import Checkout, CheckoutLine
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyRefund,
    ApplyReservation,
    ApplyShipment,
    ApplyShipmentOutcome,
    CancelItems,
    CancelOrder,
    CommitRefused,
    Committed,
    ConfirmPayment,
    FailPayment,
    PlaceOrder,
)
from order_svc.model.records import Allocation, Allocations, Order, Recipient

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# The fields of an envelope beside its command.
BESIDE_COMMAND = {field.name for field in fields_of(Envelope)} - {"command"}
RECIPIENT = Recipient(
    name="Ada Example",
    address_lines=("1 Test Street",),
    locality="London",
    administrative_area="",
    postal_code="N1 1AA",
    country_code="GB",
    email="",
    phone="",
)

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Source:
    """The fields of an event that an envelope uses."""

    key: str = "test:e1"
    request_hash: bytes = b""
    cause: str = "e1"


def checkout(*lines: CheckoutLine, **fields: Any) -> Checkout:
    values: dict[str, Any] = {
        "currency": "GBP",
        "lines": lines
        or (
            CheckoutLine(sku="LAMP", quantity=3, unit_price=1000, discount=100, tax=200),
            CheckoutLine(sku="BULB", quantity=2, unit_price=50, discount=0, tax=0),
        ),
        "discount": 0,
        "tax": 0,
        "shipping": 495,
        "customer_id": None,
        "external_reference": None,
        "recipient": RECIPIENT,
    }
    return Checkout(**(values | fields))


def allocations(of: Checkout, *warehouses: str) -> Allocations:
    """Returns line n from the nth warehouse, in rotation."""
    at = {warehouse: uuid4() for warehouse in warehouses or ("london",)}
    names = list(at)
    return {
        number: (
            Allocation(
                warehouse_id=(name := names[(number - 1) % len(names)]),
                reservation_id=at[name],
                quantity=line.quantity,
            ),
        )
        for number, line in enumerate(of.lines, 1)
    }


def envelope(kind: type[C], **fields: Any) -> Envelope[C]:
    """Returns a command of this kind in an envelope with its own key. `fields` are fields of
    either.
    """
    cause = str(uuid4())
    beside: dict[str, Any] = {
        "key": f"test:{cause}",
        "request_hash": b"",
        "actor": "test",
        "cause": cause,
    }
    beside |= {name: value for name, value in fields.items() if name in BESIDE_COMMAND}
    command = kind(**{name: value for name, value in fields.items() if name not in BESIDE_COMMAND})
    return Envelope(**beside, command=command)


def changed(old: Envelope[C], **fields: Any) -> Envelope[C]:
    """Returns the envelope with these fields of its command changed."""
    command: Any = old.command
    return old.with_command(replace(command, **fields))


def of_order(kind: type[C], order: Order, **fields: Any) -> Envelope[C]:
    """Returns a command about the order."""
    return envelope(kind, target=order.id, **fields)


def of_attempt(kind: type[C], order: Order, **fields: Any) -> Envelope[C]:
    """Returns a report about the order's attempt, unless `fields` name another one."""
    return of_order(kind, order, **({"attempt": order.attempt} | fields))


def place(of: Checkout | None = None, *warehouses: str) -> Envelope[PlaceOrder]:
    asked = of or checkout()
    return envelope(
        PlaceOrder,
        target=uuid4(),
        checkout_key=f"checkout:{uuid4()}",
        checkout=asked,
        allocations=allocations(asked, *warehouses),
    )


def placed(of: Checkout | None = None, *warehouses: str) -> Order:
    return decide(None, place(of, *warehouses), NOW).record


def pay(order: Order, **fields: Any) -> Envelope[ConfirmPayment]:
    usual: dict[str, Any] = {
        "captured": order.money(order.total),
        "not_required": order.total == 0,
        "stock": Committed({line.number: line.allocations for line in order.lines}),
    }
    return of_attempt(ConfirmPayment, order, **(usual | fields))


def fulfillment_status(
    order: Order,
    warehouse_id: str,
    stage: FulfillmentState | None,
    version: int,
    **fields: Any,
) -> Envelope[ApplyFulfillmentStatus]:
    usual: dict[str, Any] = {
        "warehouse_id": warehouse_id,
        "fulfillment_id": uuid4(),
        "version": version,
        "state": stage,
    }
    return of_attempt(ApplyFulfillmentStatus, order, **(usual | fields))


def report(
    order: Order,
    warehouse_id: str,
    stage: FulfillmentState = FulfillmentState.COMPLETED,
) -> Envelope[ApplyFulfillmentStatus]:
    """Returns the fulfilment's report that its parcel left with all units that the order has
    there.
    """
    there = [
        (line.number, allocation.quantity)
        for line in order.lines
        for allocation in line.allocations
        if allocation.warehouse_id == warehouse_id
    ]
    return fulfillment_status(order, warehouse_id, stage, 9, units=dict(there), committed=True)


def ship(
    order: Order,
    warehouse_id: str,
    delivered: datetime | None = None,
    **fields: Any,
) -> Envelope[ApplyShipment]:
    usual: dict[str, Any] = {
        "warehouse_id": warehouse_id,
        "shipment_id": uuid4(),
        "tracking_number": "SB1",
        "deliver_time": delivered,
    }
    return of_attempt(ApplyShipment, order, **(usual | fields))


def shipment_outcome(
    order: Order,
    warehouse_id: str,
    outcome: ShipmentOutcome | None,
    **fields: Any,
) -> Envelope[ApplyShipmentOutcome]:
    usual: dict[str, Any] = {
        "warehouse_id": warehouse_id,
        "shipment_id": uuid4(),
        "tracking_number": "SB1",
        "outcome": outcome,
    }
    return of_attempt(ApplyShipmentOutcome, order, **(usual | fields))


def cancel(order: Order, **fields: Any) -> Envelope[CancelOrder]:
    return of_order(CancelOrder, order, **({"reason": "CUSTOMER_REQUEST"} | fields))


def cancel_items(order: Order, units: dict[int, int], **fields: Any) -> Envelope[CancelItems]:
    usual: dict[str, Any] = {"units": units, "reason": "CUSTOMER_REQUEST"}
    return of_order(CancelItems, order, **(usual | fields))


def refund(
    order: Order,
    refunded: int,
    captured: int | None = None,
    **fields: Any,
) -> Envelope[ApplyRefund]:
    """Returns the report that this much of the payment is refunded in total."""
    usual: dict[str, Any] = {
        "captured": order.money(order.placed_total if captured is None else captured),
        "refunded": order.money(refunded),
    }
    return of_attempt(ApplyRefund, order, **(usual | fields))


def commit(order: Order, **fields: Any) -> Envelope[ApplyReservation]:
    """Returns the report that the warehouse committed the order's allocations, or `allocations`."""
    usual: dict[str, Any] = {
        "allocations": {line.number: line.allocations for line in order.lines},
        "refused": None,
    }
    return of_attempt(ApplyReservation, order, **(usual | fields))


def elsewhere(order: Order, warehouse_id: str) -> Allocations:
    """Returns allocations of the whole order from one warehouse, in a new reservation."""
    reservation_id = uuid4()
    return {
        line.number: (
            Allocation(
                warehouse_id=warehouse_id, reservation_id=reservation_id, quantity=line.quantity
            ),
        )
        for line in order.lines
    }


def after(order: Order, *commands: Envelope[Any]) -> Order:
    for command in commands:
        order = decide(order, command, NOW).record
    return order


def at(status: Status) -> Order:
    """Returns an order with that status on the way to delivered."""
    order = placed(None, "london")
    confirmed, processing = (
        pay(order),
        fulfillment_status(order, "london", FulfillmentState.PLANNING, 2),
    )
    steps = {
        Status.PENDING: (),
        Status.CONFIRMED: (confirmed,),
        Status.PROCESSING: (confirmed, processing),
        Status.SHIPPED: (confirmed, processing, ship(order, "london")),
        Status.DELIVERED: (confirmed, processing, ship(order, "london", NOW)),
        Status.FAILED: (pay(order, stock=CommitRefused("RESERVATION_EXPIRED")),),
        Status.CANCELLED: (of_attempt(FailPayment, order),),
    }
    return after(order, *steps[status])


def pounds(minor: int) -> Money:
    return Money(minor, "GBP")
