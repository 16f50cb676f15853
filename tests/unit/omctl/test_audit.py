"""The audit's checks: no finding where all is consistent, and a finding of each check where its
fact is broken.
"""

import importlib
import pkgutil
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

import omctl.audit
from chassis.values.errors import Deferred, Refused
from chassis.values.versions import check_jump
from omctl.audit import CHECKS, STUCK_AFTER, Facts, Gap, differences, persisting, unchecked
from omctl.audit.difference import Check

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


class World:
    """A delivered order of three lamps, one cancelled and one returned; the warehouse had received
    ten.
    """

    def __init__(self) -> None:
        self.order = order_pb2.Order(
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
        self.rma = return_pb2.Return(
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
        self.level = warehouse_pb2.StockLevel(
            warehouse_id="london", sku="lamp", available=9, reserved=0, committed=0, damaged=0
        )
        self.movements = [
            movement(
                KINDS.STOCK_MOVEMENT_KIND_RECEIVE, 10, "receipt", None, available=10, outside=-10
            ),
            movement(KINDS.STOCK_MOVEMENT_KIND_RESERVE, 3, "reservation", reserved=3),
            movement(
                KINDS.STOCK_MOVEMENT_KIND_CONFIRM,
                3,
                "reservation",
                available=-3,
                reserved=-3,
                committed=3,
            ),
            movement(
                KINDS.STOCK_MOVEMENT_KIND_UNCOMMIT, 1, "reservation", available=1, committed=-1
            ),
            movement(KINDS.STOCK_MOVEMENT_KIND_SHIP, 2, "reservation", committed=-2, outside=2),
            movement(KINDS.STOCK_MOVEMENT_KIND_RESTOCK, 1, "rma", available=1, outside=-1),
        ]
        self.line = warehouse_pb2.ReservationLine(
            line_number=1, sku="lamp", quantity=3, uncommitted=1, shipped=2
        )
        self.reservation = warehouse_pb2.Reservation(
            reservation_id="reservation",
            order_id="order",
            attempt=1,
            warehouse_id="london",
            lines=[self.line],
        )
        self.line = self.reservation.lines[0]
        self.payment = payment_pb2.Payment(
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
        self.payments = [self.payment]
        done = payment_pb2.REFUND_STATUS_COMPLETED
        of = {
            "payment_id": "payment",
            "order_id": "order",
            "attempt": 1,
            "amount": pence(250),
            "status": done,
        }
        self.refunds = [
            payment_pb2.Refund(
                refund_id="1", cause=payment_pb2.REFUND_CAUSE_ORDER, cause_id="version:4", **of
            ),
            payment_pb2.Refund(
                refund_id="2", cause=payment_pb2.REFUND_CAUSE_RETURN, return_id="rma", **of
            ),
        ]
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


def test_audit_of_consistent_records_finds_nothing() -> None:
    """A delivered order with a cancelled and a returned unit: the audit accounts for every unit and
    penny.
    """
    assert differences(World().facts()) == []


def _cancelled(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CANCELLED


def _cancelled_before_work(world: World) -> None:
    _cancelled(world)
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_PICKING


def _cancelled_in_transit(world: World) -> None:
    _cancelled(world)
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT


def _authorised(world: World) -> None:
    _cancelled(world)
    world.payment.status = payment_pb2.PAYMENT_STATUS_AUTHORIZED


def _pending_past_its_time(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_PENDING
    world.order.expire_time.CopyFrom(at(600))


def _commit_pending(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CONFIRMED
    world.order.stock_status = order_pb2.STOCK_STATUS_COMMIT_PENDING


def _unknown_charge(world: World) -> None:
    world.payment.operations.add(
        kind=payment_pb2.PAYMENT_OPERATION_KIND_REFUND,
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_UNKNOWN,
        request_time=at(600),
    )


def _expected_too_long(world: World) -> None:
    world.order.status = order_pb2.ORDER_STATUS_CONFIRMED
    world.order.fulfillments[0].status = order_pb2.ORDER_FULFILLMENT_STATUS_EXPECTED


def _no_carrier(world: World) -> None:
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_READY
    world.parcel.status, world.parcel.fulfillment_id = shipping_pb2.SHIPMENT_STATUS_FAILED, "work"


def _label_too_long(world: World) -> None:
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_PENDING


def _reserved_without_order(world: World) -> None:
    world.has_order = False
    world.line.reserved = 1
    world.reservation.expire_time.CopyFrom(at(600))


def _set(name: str, field: str, value: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        setattr(getattr(world, name), field, value)

    return change


def _money(name: str, field: str, minor: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        getattr(getattr(world, name), field).CopyFrom(pence(minor))

    return change


def _failed_event(world: World) -> None:
    failed = ops_service_pb2.FailedEvent(
        consumer="order-payments",
        event_id="e",
        state=ops_service_pb2.FAILED_EVENT_STATE_FAILED,
        subject="payments.payment.confirmed",
    )
    world.failed = [failed]


def _withdrawn_too_long(world: World) -> None:
    world.work.withdraw_reason = "UNITS_CUT"
    world.work.update_time.CopyFrom(at(600))


def _waiting_event(world: World) -> None:
    world.outbox.waiting_count = 1
    world.outbox.oldest_waiting_time.CopyFrom(at(600))


def _refused_event(world: World) -> None:
    world.outbox.refused_events.add(
        aggregate_id="order", event_id="e", type="T", payload_bytes=9, refusal="MaxPayloadError"
    )


def _contradicted(world: World) -> None:
    world.payment.operations.add(
        operation_id="operation", outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_FAILED
    ).contradictions.add(
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED,
        report_id="evt_1",
        payload_sha256="ab12",
    )


def _unmatched(
    kind: str, service: str = "order", aggregate: str = "order"
) -> ops_service_pb2.UnmatchedEvent:
    return ops_service_pb2.UnmatchedEvent(
        kind=ops_service_pb2.UnmatchedKind.Value(f"UNMATCHED_KIND_{kind}"),
        event_id=f"event of {service}",
        aggregate_id=aggregate,
        type="OrderStatusChanged",
        event_time=at(600),
    )


def _restored(service: str) -> Callable[[World], None]:
    return lambda world: world.unmatched[service].append(_unmatched("UNKNOWN", service))


def _order_lost_everywhere(world: World) -> None:
    """The order does not exist, one of its parcels is in transit, and picking continues
    elsewhere.
    """
    _reserved_without_order(world)
    world.parcel.status = shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT
    world.work.status = fulfillment_pb2.FULFILLMENT_STATUS_PICKING


def _cut_too_late(world: World) -> None:
    world.order.items[0].cancelled_quantity, world.order.items[0].allocations[0].quantity = 2, 1


BROKEN: dict[str, Callable[[World], None]] = {
    "stock.ledger": _set("level", "available", 8),
    "stock.conservation": lambda world: world.movements.append(
        movement(KINDS.STOCK_MOVEMENT_KIND_RECEIVE, 1, "x", None, outside=-1)
    ),
    "stock.negative": _set("level", "available", -1),
    "stock.reservations": _set("line", "committed", 1),
    "reservation.order": _reserved_without_order,
    "reservation.closed_attempt": _set("line", "committed", 1),
    "order.units": lambda world: setattr(world.order.items[0], "cancelled_quantity", 0),
    "order.stock": _set("line", "shipped", 1),
    "return.stock": lambda world: setattr(world.rma.lines[0], "passed_quantity", 0),
    "return.shipped": lambda world: world.movements.append(
        movement(KINDS.STOCK_MOVEMENT_KIND_MARK_DAMAGED, 2, "other", damaged=2, outside=-2)
    ),
    "return.unknown": lambda world: setattr(world.movements[-1], "source_id", "no return"),
    "return.recall": _cut_too_late,
    "payment.ceiling": _money("payment", "refund_pending_amount", 251),
    "payment.refunds": _money("payment", "refunded_amount", 499),
    "payment.twice": lambda world: world.payments.append(world.payment),
    "payment.contradicted": _contradicted,
    "payment.order": _order_lost_everywhere,
    "money.closed_attempt": _cancelled,
    "money.authorised": _authorised,
    "money.owed": _money("order", "total_amount", 501),
    "money.refunded": _money("order", "refunded_amount", 499),
    "money.unpaid": _set("payment", "attempt", 2),
    "return.money": _money("rma", "refunded_amount", 249),
    "return.twice": _money("order", "shipping_amount", 251),
    "fulfillment.unknown": lambda world: setattr(
        world.order.fulfillments[0], "fulfillment_id", "another"
    ),
    "fulfillment.status": _set("work", "status", fulfillment_pb2.FULFILLMENT_STATUS_READY),
    "fulfillment.order": _order_lost_everywhere,
    "fulfillment.closed_order": _cancelled_before_work,
    "shipment.order": _order_lost_everywhere,
    "shipment.closed_order": _cancelled_in_transit,
    "shipment.status": _set("parcel", "status", shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT),
    "shipment.unknown": lambda world: setattr(
        world.order.fulfillments[0], "shipment_id", "another"
    ),
    "stuck.expiry": _pending_past_its_time,
    "stuck.stock": _commit_pending,
    "stuck.fulfillment": _expected_too_long,
    "stuck.withdrawal": _withdrawn_too_long,
    "stuck.shipment": _no_carrier,
    "stuck.label": _label_too_long,
    "stuck.payment": _unknown_charge,
    "stuck.return": _set("rma", "status", return_pb2.RETURN_STATUS_INSPECTED),
    "event.failed": _failed_event,
    "event.waiting": _waiting_event,
    "event.refused": _refused_event,
    "event.lost": lambda world: world.unmatched["order"].append(_unmatched("LOST")),
    "database.restored": _restored("order"),
}


def test_contradiction_is_a_finding_until_it_is_resolved() -> None:
    """The finding names the operation, both outcomes, the report and its payload's hash; the repair
    shows more.
    """
    world = World()
    world.payment.processor = "sandbox"
    _contradicted(world)
    [found] = [d for d in differences(world.facts()) if d.check == "payment.contradicted"]
    assert (
        found.text
        == "sandbox said that operation operation failed, and its report evt_1 (SHA-256 ab12) says"
        " that it succeeded"
    )
    assert found.repair == "omctl payment contradictions order"
    world.payment.operations[0].contradictions[0].resolve_time.CopyFrom(at(0))
    assert "payment.contradicted" not in {d.check for d in differences(world.facts())}


def test_restored_database_is_found_first_with_repairs() -> None:
    """The order service was restored to a time before the order. The first finding is that, with
    the command that ends it. One command takes back what the other services hold for the order.
    """
    world = World()
    _order_lost_everywhere(world)
    world.unmatched["order"] += [_unmatched("UNKNOWN"), _unmatched("UNKNOWN", aggregate="other")]
    first, *rest = differences(world.facts())
    assert (first.check, first.repair) == (
        "database.restored",
        "omctl events adopt --service order",
    )
    assert "2 events of 2 records" in first.text
    orders = {each.check: each.repair for each in rest if each.check.endswith(".order")}
    assert orders == dict.fromkeys(
        ("payment.order", "fulfillment.order", "shipment.order", "reservation.order"),
        "omctl order undo order",
    )


def _committed_without_order(world: World) -> None:
    """The warehouse has committed units of an order that no other service has."""
    world.has_order = False
    world.work.warehouse_id = "leeds"
    world.line.committed, world.line.shipped = 2, 0
    world.reservation.update_time.CopyFrom(at(600))


def _for_no_order(world: World) -> list[tuple[str, str]]:
    found = [each for each in differences(world.facts()) if each.check == "reservation.order"]
    return [(each.text, each.repair) for each in found]


def test_commit_without_fulfilment_names_the_count() -> None:
    """No call uncommits such units: the repair is the stock count of that SKU, which ends the
    finding.
    """
    world = World()
    _committed_without_order(world)
    [(text, repair)] = _for_no_order(world)
    assert "2 units of lamp are committed in london" in text
    assert "no fulfilment picks them" in text
    *command, request_id = shlex.split(repair)
    assert command == ["omctl", "stock", "adjust", "london", "lamp", "--delta", "2", "--request-id"]
    assert _for_no_order(world) == [(text, repair)]
    count = movement(KINDS.STOCK_MOVEMENT_KIND_ADJUST, 2, request_id, None, available=2, outside=-2)
    world.movements.append(count)
    assert _for_no_order(world) == []


def test_commit_with_a_fulfilment_is_undone() -> None:
    """The cancelled fulfilment's event uncommits the units: the repair is `omctl order undo`."""
    world = World()
    _committed_without_order(world)
    world.work.warehouse_id = "london"
    assert _for_no_order(world) == [
        ("2 units for an order that does not exist", "omctl order undo order")
    ]


def test_recent_commit_for_no_order_is_no_difference() -> None:
    """A commit younger than the settling time may belong to an order that this reading lacks."""
    world = World()
    _committed_without_order(world)
    world.reservation.update_time.CopyFrom(at(1))
    assert _for_no_order(world) == []


def test_delivered_parcel_of_a_lost_order_keeps_its_price() -> None:
    """The customer has the goods and has paid for them: nothing is to be taken back."""
    world = World()
    world.has_order = False
    assert not [each for each in differences(world.facts()) if each.check.endswith(".order")]


@pytest.mark.parametrize(
    ("service", "check", "change", "repair"),
    [
        (
            "payment",
            "money.unpaid",
            lambda world: world.payments.clear(),
            "omctl order cancel order",
        ),
        ("order", "money.owed", _money("order", "total_amount", 501), "omctl order cancel order"),
        ("warehouse", "order.stock", _set("line", "shipped", 1), "omctl order cancel order"),
        (
            "fulfillment",
            "fulfillment.unknown",
            lambda world: setattr(world.order.fulfillments[0], "fulfillment_id", "another"),
            "omctl events republish --service order --aggregate order",
        ),
    ],
)
def test_repair_after_a_restoration_repairs(
    service: str, check: str, change: Callable[[World], None], repair: str
) -> None:
    """A restored service cannot publish the lost events again. The order is cancelled, or the
    service consumes the order's events again, because their ids are lost too.
    """
    world = World()
    world.order.status = order_pb2.ORDER_STATUS_SHIPPED
    change(world)
    before = {each.repair for each in differences(world.facts()) if each.check == check}
    world.unmatched[service] = [_unmatched("UNKNOWN", service)]
    after = {each.repair for each in differences(world.facts()) if each.check == check}
    assert after == {repair}
    assert before != after


def test_unit_shipped_before_its_cut_misses_only_its_recall() -> None:
    """More units were shipped than the order has left: only the recall is missing, and the stock is
    consistent.
    """
    world = World()
    _cut_too_late(world)
    checks = {each.check for each in differences(world.facts())}
    assert "return.recall" in checks
    assert "order.stock" not in checks


FAILURES = [
    ("EVENT_UNREADABLE", "discard"),
    ("EVENT_ID_REUSED", "discard"),
    ("ORDER_NOT_FOUND", "discard"),
    ("VERSION_JUMP", "show"),
    ("INTERNAL", "replay"),
]


@pytest.mark.parametrize(("reason", "verb"), FAILURES)
def test_failed_event_has_the_repair_of_its_reason(reason: str, verb: str) -> None:
    """A failed event that no replay helps is discarded or, if its version may be true, shown. Any
    other is replayed.
    """
    world = World()
    _failed_event(world)
    world.failed[0].reason = reason
    assert [d.repair for d in differences(world.facts())] == [
        f"omctl events {verb} order-payments e"
    ]


def test_version_jump_names_the_command_that_helps() -> None:
    """The finding has the service's error, which explains when and how to set the version."""
    world = World()
    _failed_event(world)
    with pytest.raises(Refused) as refused:
        check_jump(4, 2**60, "Order 7")
    world.failed[0].reason, world.failed[0].error = "VERSION_JUMP", str(refused.value)
    [found] = differences(world.facts())
    assert "VERSION_JUMP Order 7 has version 4 here" in found.text
    assert "`omctl events set-version`, then replay the event; else discard it" in found.text
    assert found.repair == "omctl events show order-payments e"


def test_deferred_event_is_no_difference() -> None:
    """The service retries a parked event: only a failed one is a difference."""
    world = World()
    _failed_event(world)
    world.failed[0].state = ops_service_pb2.FAILED_EVENT_STATE_DEFERRED
    assert differences(world.facts()) == []


def test_repair_of_one_of_two_bodies_names_its_digest() -> None:
    """Two bodies with one event id are two differences, and each repair names its own body."""
    world = World()
    _failed_event(world)
    other = ops_service_pb2.FailedEvent()
    other.CopyFrom(world.failed[0])
    world.failed[0].digest, other.digest = "ab" * 32, "cd" * 32
    world.failed = [*world.failed, other]
    assert {d.repair for d in differences(world.facts())} == {
        f"omctl events replay order-payments e --digest {digest}"
        for digest in ("ab" * 32, "cd" * 32)
    }


def test_restock_without_a_return_is_reported() -> None:
    """RestockItem with a source_id that names no return is reported with its order, place and
    units.
    """
    world = World()
    there = world.movements[-1]
    assert there.kind == KINDS.STOCK_MOVEMENT_KIND_RESTOCK
    there.source_id = "no return"
    [found] = [d for d in differences(world.facts()) if d.check == "return.unknown"]
    assert found.subject == f"order {there.order_id}"
    place = f"line {there.line_number}, {there.sku} in {there.warehouse_id}"
    assert (
        found.text
        == f"{place}: {there.quantity} units restocked for no return, which is not a return of"
        " this order"
    )


def test_refused_refund_is_repaired_by_a_refund_command() -> None:
    """If the processor refused a cancelled order's refund, a command refunds it. Without a refusal,
    the order's events are published to payment again.
    """
    world = World()
    _cancelled(world)
    assert {d.repair for d in differences(world.facts()) if d.check == "money.closed_attempt"} == {
        "omctl events republish --service order --aggregate order"
    }
    world.refunds.append(
        payment_pb2.Refund(payment_id="payment", status=payment_pb2.REFUND_STATUS_FAILED)
    )
    assert {d.repair for d in differences(world.facts()) if d.check == "money.closed_attempt"} == {
        "omctl payment refund payment --expected-version 7"
    }


def test_authorisation_of_a_cancelled_order_is_voided() -> None:
    """The repair names the payment."""
    world = World()
    _authorised(world)
    assert {d.repair for d in differences(world.facts()) if d.check == "money.authorised"} == {
        "omctl payment void payment"
    }
    world.payment.operations.add(
        kind=payment_pb2.PAYMENT_OPERATION_KIND_VOID, failure_code="processing_error"
    )
    [text] = [d.text for d in differences(world.facts()) if d.check == "money.authorised"]
    assert (
        text == "payment payment is still authorised; its last void was declined: processing_error"
    )


def test_refused_refund_of_a_return_is_tried_again() -> None:
    """The repair names the captured payment of the return's attempt. For any other pending return,
    its events are published to payment again.
    """
    world = World()
    world.rma.status, world.rma.attempt = return_pb2.RETURN_STATUS_INSPECTED, 1

    def repairs() -> set[str]:
        return {d.repair for d in differences(world.facts()) if d.check == "stuck.return"}

    republish = {"omctl events republish --service order --aggregate rma"}
    assert repairs() == republish
    world.rma.status_reason = "REFUND_FAILED"
    assert repairs() == {"omctl payment refund payment --return rma"}
    world.rma.attempt = 2
    assert repairs() == republish


def test_second_refund_of_a_return_counts_for_the_return() -> None:
    """The refused refund moved no money. The second has another cause, and names the return."""
    world = World()
    again = payment_pb2.Refund()
    again.CopyFrom(world.refunds[1])
    again.cause_id, again.return_id = "rma:2", "rma"
    world.refunds[1].status = payment_pb2.REFUND_STATUS_FAILED
    world.refunds.append(again)
    assert differences(world.facts()) == []


def test_refused_refund_of_an_open_order_is_repaired() -> None:
    """The processor refused 2.50: the command refunds exactly that, and counts for the order. A
    goodwill refund before the refusal or after the repair does not. A share that was never refused
    is payment's to refund, once it consumes the event.
    """
    world = World()
    refused = payment_pb2.REFUND_STATUS_FAILED
    world.refunds[0].MergeFrom(
        payment_pb2.Refund(status=refused, create_time=at(90), settle_time=at(80))
    )
    world.payment.refunded_amount.CopyFrom(pence(250))
    world.order.refunded_amount.CopyFrom(pence(250))
    [difference] = differences(world.facts())
    assert (difference.check, difference.repair) == (
        "money.owed",
        "omctl payment refund payment --expected-version 7 --amount 2.50 --currency GBP",
    )
    world.order.total_amount.CopyFrom(pence(400))
    assert [each.repair for each in differences(world.facts())] == [difference.repair]
    by_hand = payment_pb2.Refund(
        payment_id="payment", order_id="order", attempt=1, amount=pence(250), create_time=at(70)
    )
    by_hand.status, by_hand.cause = (
        payment_pb2.REFUND_STATUS_COMPLETED,
        payment_pb2.REFUND_CAUSE_REQUEST,
    )
    world.refunds.append(by_hand)
    world.payment.refunded_amount.CopyFrom(pence(500))
    world.order.refunded_amount.CopyFrom(pence(500))
    assert [each.repair for each in differences(world.facts())] == [
        "omctl events republish --service order --aggregate order"
    ]
    world.order.total_amount.CopyFrom(pence(500))
    assert list(differences(world.facts())) == []
    goodwill = payment_pb2.Refund()
    goodwill.CopyFrom(by_hand)
    goodwill.amount.CopyFrom(pence(100))
    goodwill.create_time.CopyFrom(at(60))
    world.refunds.append(goodwill)
    for amount in (world.payment.refunded_amount, world.order.refunded_amount):
        amount.CopyFrom(pence(600))
    assert list(differences(world.facts())) == []
    world.refunds.remove(goodwill)
    for amount in (world.payment.refunded_amount, world.order.refunded_amount):
        amount.CopyFrom(pence(500))
    by_hand.create_time.CopyFrom(at(100))
    assert [each.check for each in differences(world.facts())] == ["money.owed"]


@pytest.mark.parametrize("check", BROKEN)
def test_each_check_reports_its_broken_fact(check: str) -> None:
    """One fact is broken: its check reports it by the ids, with a repair."""
    world = World()
    BROKEN[check](world)
    found = [each for each in differences(world.facts()) if each.check == check]
    assert found, differences(world.facts())
    assert all(each.subject and each.text and each.repair.startswith("omctl ") for each in found)


@pytest.mark.parametrize("name", ["CUP AND SAUCER", "x; false", "it's $(false)", "lamp"])
@pytest.mark.parametrize(
    "check", ["stock.ledger", "stock.conservation", "stock.negative", "stock.reservations"]
)
def test_repairs_with_free_text_names_can_be_pasted(check: str, name: str) -> None:
    """Warehouses and SKUs are free text: a shell reads each as one word and executes nothing in
    it.
    """
    world = World()
    BROKEN[check](world)
    there: list[Any] = [world.level, *world.movements]
    for each in (*there, world.order.items[0], world.reservation.lines[0]):
        each.sku = name
    for each in (*there, world.reservation, world.work, world.order.items[0].allocations[0]):
        each.warehouse_id = name
    repairs = {found.repair for found in differences(world.facts()) if found.check == check}
    assert [shlex.split(repair) for repair in repairs] == [
        ["omctl", "stock", "list", "--warehouse", name, "--sku", name]
    ]


async def test_difference_of_one_reading_is_not_reported() -> None:
    """The audit reports only differences with the same text in every reading. A difference that
    changed between readings was in progress.
    """
    readings = [World(), World(), World()]
    readings[0].level.available = 8
    readings[0].order.items[0].cancelled_quantity = readings[1].order.items[
        0
    ].cancelled_quantity = 0
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert list(audit.found) == []
    assert audit.facts.levels[0].available == 9


async def test_difference_of_every_reading_is_reported() -> None:
    """The audit reports a difference that every reading has, once."""
    readings = [World(), World(), World()]
    for world in readings:
        world.level.available = 8
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert [each.check for each in audit.found] == ["stock.ledger"]


async def test_audit_service_away_once_names_the_gap() -> None:
    """A rule counts as checked only if each reading had its facts; the other rules are checked."""
    readings = [World(), World(), World()]
    for world in readings:
        world.level.available = 8
        world.line.shipped = 1  # breaks order.stock, in each reading
    readings[1].gaps = [AWAY]
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert [each.check for each in audit.found] == ["stock.ledger"]
    assert list(audit.gaps) == [AWAY]
    assert "order.stock" in unchecked(audit.gaps)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: "-".join(sorted(check.rules)))
def test_check_reads_only_the_facts_it_needs(check: Check) -> None:
    """`needs` is complete: no check runs on facts that a service did not give."""
    others = {field.name for field in fields(Facts)} - check.needs - {"time"}
    # any use of it in a check fails
    not_given: dict[str, Any] = dict.fromkeys(others, object())
    for broken in BROKEN.values():
        world = World()
        broken(world)
        limited = replace(world.facts(), **not_given)
        assert {found.check for found in check.find(limited, STUCK_AFTER)} <= check.rules


def test_checks_of_every_module_are_all_in_the_list() -> None:
    """CHECKS has every check function of the audit's modules once."""
    names = [found.name for found in pkgutil.iter_modules(omctl.audit.__path__)]
    modules = [importlib.import_module(f"omctl.audit.{name}") for name in names]
    made = [each for module in modules for each in vars(module).values() if isinstance(each, Check)]
    assert len(made) == len(CHECKS)
    assert all(each in CHECKS for each in made)


def test_rules_of_checks_are_each_broken_once() -> None:
    """Each rule has a test, and belongs to one check."""
    rules = [rule for check in CHECKS for rule in check.rules]
    assert sorted(rules) == sorted(BROKEN)


def test_audit_gap_skips_only_the_checks_that_need_it() -> None:
    """Without reservations the audit checks the ledger, and skips the check of reserved units."""
    world = World()
    world.level.available, world.line.shipped, world.gaps = 8, 1, [AWAY]
    assert [each.check for each in differences(world.facts())] == ["stock.ledger"]
    assert unchecked([AWAY]) == [
        "order.stock",
        "reservation.closed_attempt",
        "reservation.order",
        "stock.reservations",
    ]


def test_audit_gap_of_one_service_skips_that_service() -> None:
    """Each service has its own failed events: those of the others are checked."""
    world = World()
    _failed_event(world)
    world.gaps = [Gap("payment", "failed", Deferred("DEPENDENCY_UNAVAILABLE"))]
    assert [each.check for each in differences(world.facts())] == ["event.failed"]
    assert unchecked(world.gaps) == ["event.failed of payment"]


AWAY = Gap("warehouse", "reservations", Deferred("DEPENDENCY_UNAVAILABLE"))


class PreparedReadings:
    """Readings that the test prepared."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self._worlds = iter(worlds)

    async def read(self) -> Facts:
        return next(self._worlds).facts()
