"""Changes of the records that break one fact each, by the rule that reports it. No tests here."""

from collections.abc import Callable
from typing import Any

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.v1 import shipping_pb2

from tests.unit.omctl.audit_world import KINDS, World, at, movement, pence


def cancelled(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CANCELLED


def cancelled_before_work(world: World) -> None:
    cancelled(world)
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_PICKING


def cancelled_in_transit(world: World) -> None:
    cancelled(world)
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT


def authorised(world: World) -> None:
    cancelled(world)
    world.payment.status = payment_pb2.PAYMENT_STATUS_AUTHORIZED


def pending_past_its_time(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_PENDING
    world.order.expire_time.CopyFrom(at(600))


def commit_pending(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CONFIRMED
    world.order.stock_status = order_pb2.STOCK_STATUS_COMMIT_PENDING


def unknown_charge(world: World) -> None:
    world.payment.operations.add(
        kind=payment_pb2.PAYMENT_OPERATION_KIND_REFUND,
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_UNKNOWN,
        request_time=at(600),
    )


def expected_too_long(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CONFIRMED
    world.order.fulfillments[0].status = order_pb2.ORDER_FULFILLMENT_STATUS_EXPECTED


def no_carrier(world: World) -> None:
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_READY
    world.parcel.status, world.parcel.fulfillment_id = shipping_pb2.SHIPMENT_STATUS_FAILED, "work"


def label_too_long(world: World) -> None:
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_PENDING


def reserved_without_order(world: World) -> None:
    world.has_order = False
    world.line.reserved = 1
    world.reservation.expire_time.CopyFrom(at(600))


def set_field(name: str, field: str, value: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        setattr(getattr(world, name), field, value)

    return change


def set_money(name: str, field: str, minor: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        getattr(getattr(world, name), field).CopyFrom(pence(minor))

    return change


def failed_event(world: World) -> None:
    failed = ops_service_pb2.FailedEvent(
        consumer="order-payments",
        event_id="e",
        state=ops_service_pb2.FAILED_EVENT_STATE_FAILED,
        subject="payments.payment.confirmed",
    )
    world.failed = [failed]


def withdrawn_too_long(world: World) -> None:
    world.work.withdraw_reason = "UNITS_CUT"
    world.work.update_time.CopyFrom(at(600))


def waiting_event(world: World) -> None:
    world.outbox.waiting_count = 1
    world.outbox.oldest_waiting_time.CopyFrom(at(600))


def refused_event(world: World) -> None:
    world.outbox.refused_events.add(
        aggregate_id="order", event_id="e", type="T", payload_bytes=9, refusal="MaxPayloadError"
    )


def contradicted(world: World) -> None:
    world.payment.operations.add(
        operation_id="operation", outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_FAILED
    ).contradictions.add(
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED,
        report_id="evt_1",
        payload_sha256="ab12",
    )


def unmatched_event(
    kind: str, service: str = "order", aggregate: str = "order"
) -> ops_service_pb2.UnmatchedEvent:
    return ops_service_pb2.UnmatchedEvent(
        kind=ops_service_pb2.UnmatchedKind.Value(f"UNMATCHED_KIND_{kind}"),
        event_id=f"event of {service}",
        aggregate_id=aggregate,
        type="OrderStatusChanged",
        event_time=at(600),
    )


def restored(service: str) -> Callable[[World], None]:
    return lambda world: world.unmatched[service].append(unmatched_event("UNKNOWN", service))


def order_lost_everywhere(world: World) -> None:
    """The order does not exist, one of its parcels is in transit, and picking continues
    elsewhere.
    """
    reserved_without_order(world)
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_PICKING


def cut_too_late(world: World) -> None:
    world.order.items[0].cancelled_quantity, world.order.items[0].allocations[0].quantity = 2, 1


BROKEN: dict[str, Callable[[World], None]] = {
    "stock.ledger": set_field("level", "available", 8),
    "stock.conservation": lambda world: world.movements.append(
        movement(KINDS.STOCK_MOVEMENT_KIND_RECEIVE, 1, "x", None, outside=-1)
    ),
    "stock.negative": set_field("level", "available", -1),
    "stock.reservations": set_field("line", "committed", 1),
    "reservation.order": reserved_without_order,
    "reservation.closed_attempt": set_field("line", "committed", 1),
    "order.units": lambda world: setattr(world.order.items[0], "cancelled_quantity", 0),
    "order.stock": set_field("line", "shipped", 1),
    "return.stock": lambda world: setattr(world.rma.lines[0], "passed_quantity", 0),
    "return.shipped": lambda world: world.movements.append(
        movement(KINDS.STOCK_MOVEMENT_KIND_MARK_DAMAGED, 2, "other", damaged=2, outside=-2)
    ),
    "return.unknown": lambda world: setattr(world.movements[-1], "source_id", "no return"),
    "return.recall": cut_too_late,
    "payment.ceiling": set_money("payment", "refund_pending_amount", 251),
    "payment.refunds": set_money("payment", "refunded_amount", 499),
    "payment.twice": lambda world: world.payments.append(world.payment),
    "payment.contradicted": contradicted,
    "payment.order": order_lost_everywhere,
    "money.closed_attempt": cancelled,
    "money.authorised": authorised,
    "money.owed": set_money("order", "total_amount", 501),
    "money.refunded": set_money("order", "refunded_amount", 499),
    "money.unpaid": set_field("payment", "attempt", 2),
    "return.money": set_money("rma", "refunded_amount", 249),
    "return.twice": set_money("order", "shipping_amount", 251),
    "fulfillment.unknown": lambda world: setattr(
        world.order.fulfillments[0], "fulfillment_id", "another"
    ),
    "fulfillment.status": set_field("work", "status", fulfillment_pb2.FULFILLMENT_STATUS_READY),
    "fulfillment.order": order_lost_everywhere,
    "fulfillment.closed_order": cancelled_before_work,
    "shipment.order": order_lost_everywhere,
    "shipment.closed_order": cancelled_in_transit,
    "shipment.status": set_field("parcel", "status", shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT),
    "shipment.unknown": lambda world: setattr(
        world.order.fulfillments[0], "shipment_id", "another"
    ),
    "stuck.expiry": pending_past_its_time,
    "stuck.stock": commit_pending,
    "stuck.fulfillment": expected_too_long,
    "stuck.withdrawal": withdrawn_too_long,
    "stuck.shipment": no_carrier,
    "stuck.label": label_too_long,
    "stuck.payment": unknown_charge,
    "stuck.return": set_field("rma", "status", return_pb2.RETURN_STATUS_INSPECTED),
    "event.failed": failed_event,
    "event.waiting": waiting_event,
    "event.refused": refused_event,
    "event.lost": lambda world: world.unmatched["order"].append(unmatched_event("LOST")),
    "database.restored": restored("order"),
}
