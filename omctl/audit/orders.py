"""Checks of every order: the services agree on its status, and no automatic step is stuck. Pure."""

from datetime import timedelta
from typing import Final

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.v1 import shipping_pb2

from omctl.audit.difference import (
    AT_WORK,
    CANCELLED_OR_FAILED,
    Difference,
    Differences,
    cancel,
    check,
    minor,
    older,
    republish,
    undo,
)
from omctl.audit.facts import Facts
from omctl.names import name_of

OVER = frozenset({"shipped", "completed", "cancelled"})
# Statuses that a parcel of an ended order may have without a recall.
AT_REST = frozenset(
    {
        shipping_pb2.SHIPMENT_STATUS_DELIVERED,
        shipping_pb2.SHIPMENT_STATUS_LOST,
        shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER,
        shipping_pb2.SHIPMENT_STATUS_VOIDED,
        shipping_pb2.SHIPMENT_STATUS_FAILED,
    }
)
OPEN_OPERATIONS = frozenset(
    {payment_pb2.PAYMENT_OPERATION_OUTCOME_REQUESTED, payment_pb2.PAYMENT_OPERATION_OUTCOME_UNKNOWN}
)

# The first command on a failed event, by its reason; "replay" for another reason. No replay helps
# an event that cannot be read, or whose id was applied with another body. Each replay of a version
# jump fails until an operator sets the stored version: the error names that command, and `show`
# prints the event, with which the operator checks the stated version.
VERBS: Final = {
    "EVENT_UNREADABLE": "discard",
    "EVENT_ID_REUSED": "discard",
    "VERSION_JUMP": "show",
}


@check(
    "orders",
    "fulfillments",
    rules=(
        "fulfillment.unknown",
        "fulfillment.status",
        "fulfillment.order",
        "fulfillment.closed_order",
    ),
)
def fulfillments(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Order and fulfilment agree on each warehouse's work, and no fulfilment of a cancelled or
    failed order is open.
    """
    works = {work.fulfillment_id: work for work in facts.fulfillments}
    for order in facts.orders.values():
        for part in order.fulfillments:
            work = works.get(part.fulfillment_id)
            subject = f"order {order.order_id} in {part.warehouse_id}"
            expected = name_of(order_pb2.OrderFulfillmentStatus, part.status)
            if work is None:
                if part.HasField("fulfillment_id") or part.status not in (
                    order_pb2.ORDER_FULFILLMENT_STATUS_EXPECTED,
                    order_pb2.ORDER_FULFILLMENT_STATUS_CANCELLED,
                ):  # else the order service has received no event of a fulfilment
                    yield Difference(
                        check="fulfillment.unknown",
                        subject=subject,
                        text=f"{expected}, and the fulfilment does not exist",
                        repair=_get(order.order_id),
                    )
            elif (found := name_of(fulfillment_pb2.FulfillmentStatus, work.status)) != expected:
                text = f"the order says {expected}, the fulfilment {found}"
                yield Difference(
                    check="fulfillment.status",
                    subject=subject,
                    text=text,
                    repair=republish("fulfillment", work.fulfillment_id),
                )
    for work in facts.fulfillments:
        order_ = facts.orders.get(work.order_id)
        status = name_of(fulfillment_pb2.FulfillmentStatus, work.status)
        subject = f"fulfilment {work.fulfillment_id} of order {work.order_id}"
        if order_ is None:
            if status not in OVER:
                text = f"{status}, and its order does not exist"
                yield Difference(
                    check="fulfillment.order",
                    subject=subject,
                    text=text,
                    repair=undo(work.order_id),
                )
        elif (
            order_.status in CANCELLED_OR_FAILED
            and status not in OVER
            and not work.HasField("withdraw_reason")
        ):
            yield Difference(
                check="fulfillment.closed_order",
                subject=subject,
                text=f"{status}, and its order is cancelled or failed",
                repair=republish("order", work.order_id),
            )


@check(
    "orders",
    "shipments",
    rules=("shipment.order", "shipment.closed_order", "shipment.status", "shipment.unknown"),
)
def shipments(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Parcels of cancelled or failed orders are recalled, a delivered order's parcels are
    delivered, and the order has each parcel's shipment.
    """
    for shipment in facts.shipments:
        order = facts.orders.get(shipment.order_id)
        subject = f"shipment {shipment.shipment_id} of order {shipment.order_id}"
        status = name_of(shipping_pb2.ShipmentStatus, shipment.status)
        repair = republish("shipping", shipment.shipment_id)
        if order is None:
            if shipment.status not in AT_REST and not shipment.HasField("recall_time"):
                text = f"{status}, not recalled, and its order does not exist"
                yield Difference(
                    check="shipment.order",
                    subject=subject,
                    text=text,
                    repair=undo(shipment.order_id),
                )
            continue
        if (
            order.status in CANCELLED_OR_FAILED
            and shipment.status not in AT_REST
            and not shipment.HasField("recall_time")
        ):
            yield Difference(
                check="shipment.closed_order",
                subject=subject,
                text=f"{status}, not recalled, and its order is cancelled or failed",
                repair=republish("order", order.order_id),
            )
        if order.status == order_pb2.ORDER_STATUS_DELIVERED and shipment.status not in AT_REST:
            yield Difference(
                check="shipment.status",
                subject=subject,
                text=f"{status}, and its order is delivered",
                repair=repair,
            )
        known = {part.shipment_id for part in order.fulfillments}
        void = shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED and shipment.HasField(
            "withdraw_version"
        )
        if (
            shipment.tracking_number
            and order.status not in CANCELLED_OR_FAILED
            and shipment.shipment_id not in known
            and not void
        ):
            yield Difference(
                check="shipment.unknown",
                subject=subject,
                text=f"{status}, and its order does not have it",
                repair=repair,
            )


@check("orders", rules=("stuck.expiry", "stuck.stock", "stuck.fulfillment"))
def stuck_orders(facts: Facts, stuck_after: timedelta) -> Differences:
    """Each automatic step of an order happens within `stuck_after`."""
    now = facts.time
    for order in facts.orders.values():
        subject, get = f"order {order.order_id}", _get(order.order_id)
        if order.status == order_pb2.ORDER_STATUS_PENDING and older(
            order.expire_time, now, stuck_after
        ):
            yield Difference(
                check="stuck.expiry", subject=subject, text="pending past its time", repair=get
            )
        if (
            order.stock_status == order_pb2.STOCK_STATUS_COMMIT_PENDING
            and order.status in AT_WORK
            and older(order.update_time, now, stuck_after)
        ):
            yield Difference(
                check="stuck.stock",
                subject=subject,
                text="its stock commit is still pending",
                repair=republish("warehouse", order.order_id),
            )
        waiting = [
            part
            for part in order.fulfillments
            if part.status == order_pb2.ORDER_FULFILLMENT_STATUS_EXPECTED
            and order.status in AT_WORK
        ]
        if waiting and older(order.update_time, now, stuck_after):
            yield Difference(
                check="stuck.fulfillment",
                subject=subject,
                text=f"no fulfilment in {waiting[0].warehouse_id}",
                repair=republish("order", order.order_id),
            )


@check("fulfillments", rules=("stuck.withdrawal",))
def stuck_withdrawals(facts: Facts, stuck_after: timedelta) -> Differences:
    """Shipping answers a withdrawal: the label is void, or the carrier has the parcels."""
    for work in facts.fulfillments:
        if work.HasField("withdraw_reason") and older(work.update_time, facts.time, stuck_after):
            subject = f"fulfilment {work.fulfillment_id} of order {work.order_id}"
            text = f"withdrawn ({work.withdraw_reason}), and its label is neither void nor used"
            yield Difference(
                check="stuck.withdrawal",
                subject=subject,
                text=text,
                repair=republish("fulfillment", work.fulfillment_id),
            )


@check("fulfillments", "shipments", rules=("stuck.shipment",))
def stuck_fulfillments(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Each ready fulfilment has a shipment that has not failed."""
    failed = {
        s.fulfillment_id
        for s in facts.shipments
        if s.status == shipping_pb2.SHIPMENT_STATUS_FAILED and not s.HasField("withdraw_version")
    }
    for work in facts.fulfillments:
        if (
            work.status == fulfillment_pb2.FULFILLMENT_STATUS_READY
            and work.fulfillment_id in failed
        ):
            subject = f"fulfilment {work.fulfillment_id} of order {work.order_id}"
            yield Difference(
                check="stuck.shipment",
                subject=subject,
                text="ready, and no carrier takes it: its shipment has failed",
                repair=cancel(work.order_id),
            )


@check("shipments", rules=("stuck.label",))
def stuck_labels(facts: Facts, stuck_after: timedelta) -> Differences:
    """A label is bought within `stuck_after`."""
    for shipment in facts.shipments:
        if shipment.status == shipping_pb2.SHIPMENT_STATUS_PENDING and older(
            shipment.update_time, facts.time, stuck_after
        ):
            yield Difference(
                check="stuck.label",
                subject=f"shipment {shipment.shipment_id}",
                text="its label is not bought",
                repair=_get(shipment.order_id),
            )


@check("payments", rules=("stuck.payment",))
def stuck_payments(facts: Facts, stuck_after: timedelta) -> Differences:
    """Each operation of a processor is settled within `stuck_after`."""
    for payment in facts.payments:
        for operation in payment.operations:
            if operation.outcome in OPEN_OPERATIONS and older(
                operation.request_time, facts.time, stuck_after
            ):
                kind = name_of(payment_pb2.PaymentOperationKind, operation.kind)
                subject = f"payment {payment.payment_id} of order {payment.order_id}"
                yield Difference(
                    check="stuck.payment",
                    subject=subject,
                    text=f"the {kind} {operation.operation_id} is not settled",
                    repair=_get(payment.order_id),
                )


@check("returns", "payments", rules=("stuck.return",))
def stuck_returns(facts: Facts, stuck_after: timedelta) -> Differences:
    """An inspected return is closed within `stuck_after`."""
    for each in facts.returns:
        if each.status in (
            return_pb2.RETURN_STATUS_INSPECTED,
            return_pb2.RETURN_STATUS_REFUNDED,
        ) and older(each.update_time, facts.time, stuck_after):
            subject = f"return {each.return_id} of order {each.order_id}"
            yield Difference(
                check="stuck.return",
                subject=subject,
                text=f"inspected, and not closed ({each.status_reason})",
                repair=_refund(facts, each),
            )


@check("failed", rules=("event.failed",), by_service=True)
def failed_events(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No event has failed. A deferred event counts as none: its service tries it again."""
    for failed in facts.failed.values():
        for event in failed:
            if event.state != ops_service_pb2.FAILED_EVENT_STATE_FAILED:
                continue
            subject = f"event {event.event_id} for {event.consumer}"
            text = f"{event.subject} of {event.aggregate_id}: {event.reason} {event.error}".rstrip()
            # Another body may have the same id, in a row that is not open: the digest names one.
            repair = f"omctl events {_verb(event)} {event.consumer} {event.event_id}"
            repair += f" --digest {event.digest}" if event.digest else ""
            yield Difference(check="event.failed", subject=subject, text=text, repair=repair)


@check("outboxes", rules=("event.waiting",), by_service=True)
def waiting_events(facts: Facts, stuck_after: timedelta) -> Differences:
    """No event waits to be published for longer than `stuck_after`."""
    for service, outbox in facts.outboxes.items():
        if outbox.waiting_count and older(outbox.oldest_waiting_time, facts.time, stuck_after):
            text = f"{outbox.waiting_count} events wait to be published on {outbox.stream}"
            yield Difference(
                check="event.waiting",
                subject=f"outbox of {service}",
                text=text,
                repair=f"omctl events stats --service {service}",
            )


@check("outboxes", rules=("event.refused",), by_service=True)
def refused_events(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No event is refused by its stream: the later events of its aggregate wait behind it."""
    for service, outbox in facts.outboxes.items():
        for refused in outbox.refused_events:
            subject = f"aggregate {refused.aggregate_id} in the outbox of {service}"
            text = (
                f"its events wait behind {refused.type} {refused.event_id} of"
                f" {refused.payload_bytes} bytes, which {outbox.stream} refuses: {refused.refusal}"
            )
            yield Difference(
                check="event.refused",
                subject=subject,
                text=text,
                repair=f"omctl events stats --service {service}",
            )


def _refund(facts: Facts, item: return_pb2.Return) -> str:
    """Returns the command that closes an inspected return.

    The return's event, published again, makes payment refund it. A refund that the processor has
    refused needs a new request.
    """
    of_order = facts.payments_of.get(item.order_id, ())
    payment = next(
        (p for p in of_order if p.attempt == item.attempt and minor(p.captured_amount)), None
    )
    if payment is None or item.status_reason != "REFUND_FAILED":
        return republish("order", item.return_id)
    return f"omctl payment refund {payment.payment_id} --return {item.return_id}"


def _verb(event: ops_service_pb2.FailedEvent) -> str:
    """Returns the command of `omctl events` that an operator uses first on a failed event.

    An event whose order the order service lacks is discarded. Shipping calls the order service.
    Another service's ORDER_NOT_FOUND may mean that it has not consumed the order's event yet.
    """
    if event.reason == "ORDER_NOT_FOUND" and event.consumer.startswith(("order-", "shipping-")):
        return "discard"
    return VERBS.get(event.reason, "replay")


def _get(order_id: str) -> str:
    return f"omctl order get {order_id}"
