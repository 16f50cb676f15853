"""The repair that the audit names for a difference."""

import shlex
from collections.abc import Callable

import pytest
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2

from chassis.values.errors import Refused
from chassis.values.versions import check_jump
from omctl.audit.audit import differences
from tests.unit.omctl.audit_world import KINDS, World, at, movement, pence
from tests.unit.omctl.broken_facts import (
    authorised,
    cancelled,
    failed_event,
    order_lost_everywhere,
    set_field,
    set_money,
    unmatched_event,
)


def test_restored_database_is_found_first_with_repairs() -> None:
    """The order service was restored to a time before the order. The first finding is that, with
    the command that ends it. One command takes back what the other services hold for the order.
    """
    world = World()
    order_lost_everywhere(world)
    world.unmatched["order"] += [
        unmatched_event("UNKNOWN"),
        unmatched_event("UNKNOWN", aggregate="other"),
    ]
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
        (
            "order",
            "money.owed",
            set_money("order", "total_amount", 501),
            "omctl order cancel order",
        ),
        ("warehouse", "order.stock", set_field("line", "shipped", 1), "omctl order cancel order"),
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
    world.unmatched[service] = [unmatched_event("UNKNOWN", service)]
    after = {each.repair for each in differences(world.facts()) if each.check == check}
    assert after == {repair}
    assert before != after


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
    failed_event(world)
    world.failed[0].reason = reason
    assert [d.repair for d in differences(world.facts())] == [
        f"omctl events {verb} order-payments e"
    ]


def test_version_jump_names_the_command_that_helps() -> None:
    """The finding has the service's error, which explains when and how to set the version."""
    world = World()
    failed_event(world)
    with pytest.raises(Refused) as refused:
        check_jump(4, 2**60, "Order 7")
    world.failed[0].reason, world.failed[0].error = "VERSION_JUMP", str(refused.value)
    [found] = differences(world.facts())
    assert "VERSION_JUMP Order 7 has version 4 here" in found.text
    assert "`omctl events set-version`, then replay the event; else discard it" in found.text
    assert found.repair == "omctl events show order-payments e"


def test_repair_of_one_of_two_bodies_names_its_digest() -> None:
    """Two bodies with one event id are two differences, and each repair names its own body."""
    world = World()
    failed_event(world)
    other = ops_service_pb2.FailedEvent()
    other.CopyFrom(world.failed[0])
    world.failed[0].digest, other.digest = "ab" * 32, "cd" * 32
    world.failed = [*world.failed, other]
    assert {d.repair for d in differences(world.facts())} == {
        f"omctl events replay order-payments e --digest {digest}"
        for digest in ("ab" * 32, "cd" * 32)
    }


def test_refused_refund_is_repaired_by_a_refund_command() -> None:
    """If the processor refused a cancelled order's refund, a command refunds it. Without a refusal,
    the order's events are published to payment again.
    """
    world = World()
    cancelled(world)
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
    authorised(world)
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
