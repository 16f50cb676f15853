"""A delivered order in the records of all services, for tests of the audit. No tests here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.audit.facts import Facts, Gap

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


KINDS = warehouse_pb2.StockMovementKind


def at(seconds_ago: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(NOW - timedelta(seconds=seconds_ago))
    return time


def pence(minor: int) -> Money:
    return Money(currency_code="GBP", units=minor // 100, nanos=minor % 100 * 10_000_000)


def movement(
    kind: int, quantity: int, source: str, line: int | None = 1, **deltas: Any
) -> warehouse_pb2.StockMovement:
    return warehouse_pb2.StockMovement(
        warehouse_id="london",
        sku="lamp",
        kind=kind,  # type: ignore[arg-type]  # a number of the enum
        quantity=quantity,
        source_id=source,
        order_id="order" if line else None,
        line_number=line,
        **{f"{name}_delta": change for name, change in deltas.items()},
    )


def delivered_order() -> order_pb2.Order:
    """Three lamps, of which one is cancelled."""
    return order_pb2.Order(
        order_id="order",
        status=order_pb2.ORDER_STATUS_DELIVERED,
        attempt=1,
        payment_status=order_pb2.PAYMENT_STATUS_PARTIALLY_REFUNDED,
        stock_status=order_pb2.STOCK_STATUS_DEDUCTED,
        items=[
            order_pb2.OrderItem(
                line_number=1,
                sku="lamp",
                quantity=3,
                cancelled_quantity=1,
                allocations=[
                    order_pb2.Allocation(
                        warehouse_id="london", reservation_id="reservation", quantity=2
                    )
                ],
            )
        ],
        total_amount=pence(500),
        refunded_amount=pence(500),
        fulfillments=[
            order_pb2.OrderFulfillment(
                warehouse_id="london",
                fulfillment_id="work",
                status=order_pb2.ORDER_FULFILLMENT_STATUS_COMPLETED,
                shipment_id="parcel",
                deliver_time=at(50),
            )
        ],
        update_time=at(600),
    )


def closed_return() -> return_pb2.Return:
    """A return of one lamp, refunded."""
    return return_pb2.Return(
        return_id="rma",
        order_id="order",
        status=return_pb2.RETURN_STATUS_CLOSED,
        lines=[
            return_pb2.ReturnLine(
                line_number=1, announced_quantity=1, received_quantity=1, passed_quantity=1
            )
        ],
        refund_amount=pence(250),
        refunded_amount=pence(250),
        update_time=at(600),
    )


def ledger() -> list[warehouse_pb2.StockMovement]:
    """The movements of the stock level, from its first receipt."""
    return [
        movement(KINDS.STOCK_MOVEMENT_KIND_RECEIVE, 10, "receipt", None, available=10, outside=-10),
        movement(KINDS.STOCK_MOVEMENT_KIND_RESERVE, 3, "reservation", reserved=3),
        movement(
            KINDS.STOCK_MOVEMENT_KIND_CONFIRM,
            3,
            "reservation",
            available=-3,
            reserved=-3,
            committed=3,
        ),
        movement(KINDS.STOCK_MOVEMENT_KIND_UNCOMMIT, 1, "reservation", available=1, committed=-1),
        movement(KINDS.STOCK_MOVEMENT_KIND_SHIP, 2, "reservation", committed=-2, outside=2),
        movement(KINDS.STOCK_MOVEMENT_KIND_RESTOCK, 1, "rma", available=1, outside=-1),
    ]


def refunded_payment() -> payment_pb2.Payment:
    """The captured payment, partially refunded."""
    return payment_pb2.Payment(
        payment_id="payment",
        order_id="order",
        attempt=1,
        status=payment_pb2.PAYMENT_STATUS_PARTIALLY_REFUNDED,
        amount=pence(750),
        authorized_amount=pence(750),
        captured_amount=pence(750),
        refunded_amount=pence(500),
        version=7,
    )


def completed_refunds() -> list[payment_pb2.Refund]:
    """The refunds of the cancelled lamp and of the returned one."""
    common = {
        "payment_id": "payment",
        "order_id": "order",
        "attempt": 1,
        "amount": pence(250),
        "status": payment_pb2.REFUND_STATUS_COMPLETED,
    }
    return [
        payment_pb2.Refund(
            refund_id="1", cause=payment_pb2.REFUND_CAUSE_ORDER, cause_id="version:4", **common
        ),
        payment_pb2.Refund(
            refund_id="2", cause=payment_pb2.REFUND_CAUSE_RETURN, return_id="rma", **common
        ),
    ]


class World:
    """A delivered order of three lamps, one cancelled and one returned; the warehouse had received
    ten.
    """

    def __init__(self) -> None:
        self.order = delivered_order()
        self.rma = closed_return()
        self.level = warehouse_pb2.StockLevel(
            warehouse_id="london", sku="lamp", available=9, reserved=0, committed=0, damaged=0
        )
        self.movements = ledger()
        self.reservation = warehouse_pb2.Reservation(
            reservation_id="reservation",
            order_id="order",
            attempt=1,
            warehouse_id="london",
            lines=[
                warehouse_pb2.ReservationLine(
                    line_number=1, sku="lamp", quantity=3, uncommitted=1, shipped=2
                )
            ],
        )
        self.line = self.reservation.lines[0]
        self.payment = refunded_payment()
        self.payments = [self.payment]
        self.refunds = completed_refunds()
        self.work = fulfillment_pb2.Fulfillment(
            fulfillment_id="work",
            order_id="order",
            attempt=1,
            warehouse_id="london",
            status=fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED,
        )
        self.parcel = shipping_pb2.Shipment(
            shipment_id="parcel",
            order_id="order",
            status=shipping_pb2.SHIPMENT_STATUS_DELIVERED,
            tracking_number="T1",
            update_time=at(600),
        )
        self.failed: Sequence[ops_service_pb2.FailedEvent] = ()
        self.outbox = ops_service_pb2.GetOutboxStatsResponse(stream="ORDERS", kept_count=9)
        self.has_order = True
        self.gaps: Sequence[Gap] = ()
        self.unmatched: dict[str, list[ops_service_pb2.UnmatchedEvent]] = {
            "order": [],
            "payment": [],
        }

    def facts(self) -> Facts:
        orders: Mapping[str, order_pb2.Order] = {"order": self.order} if self.has_order else {}
        return Facts(
            time=NOW,
            orders=orders,
            returns=[self.rma],
            levels=[self.level],
            movements=self.movements,
            reservations=[self.reservation],
            payments=self.payments,
            refunds=self.refunds,
            fulfillments=[self.work],
            shipments=[self.parcel],
            failed={"order": self.failed},
            outboxes={"order": self.outbox},
            gaps=self.gaps,
            unmatched=self.unmatched,
        )
