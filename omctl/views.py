"""Orders, timelines, payments, stock levels and events as tables and lines of text. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.names import name_of
from omctl.output import Table, money, time

SECONDS = len("2026-01-31 09:00:00")


def orders(found: Sequence[order_pb2.Order]) -> Table:
    """Returns one row for each order. Commands accept its number in place of its id."""
    headings = ("ORDER", "STATUS", "TOTAL", "UNITS", "CUSTOMER", "REFERENCE", "PLACED")
    rows = [
        (
            order.order_number,
            name_of(order_pb2.OrderStatus, order.status),
            money(order.total_amount),
            str(sum(item.quantity - item.cancelled_quantity for item in order.items)),
            order.customer_id or "-",
            order.external_reference or "-",
            time(order.create_time)[:SECONDS],
        )
        for order in found
    ]
    return Table(headings, rows, frozenset({2, 3}))


def facts(order: order_pb2.Order) -> Iterator[str]:
    """Returns an order's fields, except its lines, as lines of text."""
    yield f"order      {order.order_number} ({order.order_id})"
    yield (
        f"status     {name_of(order_pb2.OrderStatus, order.status)}: {order.status_reason};"
        f" version {order.version}, attempt {order.attempt}"
    )
    yield (
        f"also       payment {name_of(order_pb2.PaymentStatus, order.payment_status)}, "
        f"goods {name_of(order_pb2.FulfillmentProgress, order.fulfillment_progress)}, "
        f"stock {name_of(order_pb2.StockStatus, order.stock_status)}, "
        f"returns {name_of(order_pb2.ReturnProgress, order.return_progress)}"
    )
    yield f"customer   {order.customer_id or '-'}, reference {order.external_reference or '-'}"
    cancelled = (
        f" - {money(order.cancelled_amount)} cancelled"
        if order.HasField("cancelled_amount")
        else ""
    )
    yield (
        f"total      {money(order.total_amount)} = {money(order.subtotal_amount)} -"
        f" {money(order.discount_amount)} discount + {money(order.tax_amount)} tax +"
        f" {money(order.shipping_amount)} shipping{cancelled}; {money(order.refunded_amount)}"
        " refunded"
    )
    expires = f", expires {time(order.expire_time)}" if order.HasField("expire_time") else ""
    yield f"placed     {time(order.create_time)}, changed {time(order.update_time)}{expires}"
    for late in order.late_events:
        yield (
            f"late       {time(late.occur_time)} {late.reason} (by {late.actor}): consumed after"
            " the order's end"
        )


def items(order: order_pb2.Order) -> Table:
    """Returns one row for each line of the order, with its allocations."""
    rows = [
        (
            str(item.line_number),
            item.sku,
            str(item.quantity - item.cancelled_quantity),
            money(item.unit_price),
            money(item.total_amount),
            ", ".join(
                f"{allocation.quantity} from {allocation.warehouse_id}"
                for allocation in item.allocations
            )
            or "-",
        )
        for item in order.items
    ]
    return Table(("LINE", "SKU", "UNITS", "PRICE", "TOTAL", "STOCK"), rows, frozenset({0, 2, 3, 4}))


def parcels(order: order_pb2.Order) -> Table:
    """Returns one row for each warehouse that serves the order; none until it is confirmed."""
    rows = [
        (
            part.warehouse_id,
            name_of(order_pb2.OrderFulfillmentStatus, part.status),
            part.tracking_number or "-",
            time(part.deliver_time) if part.HasField("deliver_time") else "-",
            part.fulfillment_id or "-",
            part.shipment_id or "-",
        )
        for part in order.fulfillments
    ]
    return Table(("WAREHOUSE", "WORK", "TRACKING", "DELIVERED", "FULFILMENT", "SHIPMENT"), rows)


def transition(change: order_pb2.OrderTransition) -> str:
    """Returns a line of the timeline, with the claimed actor and the note if there are any."""
    actor = f"{change.actor} for {change.claimed_actor}" if change.claimed_actor else change.actor
    note = f"  {change.note}" if change.note else ""
    why = f"{change.reason}  (by {actor}, version {change.order_version}){note}"
    return (
        f"{time(change.occur_time)}  {name_of(order_pb2.OrderStatus, change.new_status):<10}  {why}"
    )


def payments(found: Sequence[payment_pb2.Payment]) -> Table:
    """Returns one row for each payment."""
    headings = ("PAYMENT", "ATTEMPT", "STATUS", "AMOUNT", "CAPTURED", "REFUNDED", "PENDING")
    amounts = ("amount", "captured_amount", "refunded_amount", "refund_pending_amount")
    rows = [
        (
            p.payment_id,
            str(p.attempt),
            name_of(payment_pb2.PaymentStatus, p.status),
            *(money(getattr(p, name)) for name in amounts),
        )
        for p in found
    ]
    return Table(headings, rows, frozenset(range(3, 7)))


def contradictions(found: Sequence[payment_pb2.Payment]) -> Table:
    """Returns one row for each report in which a processor contradicts its earlier report."""
    headings = (
        "PAYMENT",
        "CONTRADICTION",
        "KIND",
        "OPERATION",
        "SAID",
        "SAYS",
        "REPORT",
        "SHA-256",
        "SINCE",
        "RESOLVED",
    )
    return Table(headings, [row for payment in found for row in _contradiction_rows(payment)])


def _contradiction_rows(payment: payment_pb2.Payment) -> Iterator[tuple[str, ...]]:
    for operation in payment.operations:
        for contradiction in operation.contradictions:
            yield (
                payment.payment_id,
                contradiction.contradiction_id,
                name_of(payment_pb2.PaymentOperationKind, operation.kind),
                operation.operation_id,
                name_of(payment_pb2.PaymentOperationOutcome, operation.outcome),
                name_of(payment_pb2.PaymentOperationOutcome, contradiction.outcome),
                contradiction.report_id,
                contradiction.payload_sha256,
                time(contradiction.report_time)[:SECONDS],
                contradiction.resolve_note or "-",
            )


def stock(levels: Sequence[warehouse_pb2.StockLevel]) -> Table:
    """Returns one row for each SKU and warehouse."""
    headings = ("WAREHOUSE", "SKU", "SELLABLE", "AVAILABLE", "RESERVED", "COMMITTED", "DAMAGED")
    rows = [
        (
            level.warehouse_id,
            level.sku,
            *map(
                str,
                (level.sellable, level.available, level.reserved, level.committed, level.damaged),
            ),
        )
        for level in levels
    ]
    return Table(headings, rows, frozenset(range(2, 7)))


def failed_events(found: Sequence[ops_service_pb2.FailedEvent]) -> Table:
    """Returns one row for each event. Other commands name it by consumer and event."""
    rows = [
        (
            event.consumer,
            event.event_id,
            name_of(ops_service_pb2.FailedEventState, event.state),
            event.subject,
            event.aggregate_id or "-",
            event.reason,
            str(event.attempts),
            time(event.first_fail_time)[:SECONDS],
        )
        for event in found
    ]
    return Table(
        ("CONSUMER", "EVENT", "STATE", "SUBJECT", "ABOUT", "REASON", "TRIES", "FAILED FIRST"),
        rows,
        frozenset({6}),
    )


def failed_event(event: ops_service_pb2.FailedEvent) -> Iterator[str]:
    """Returns a failed event's fields, except its payload, as lines of text."""
    yield f"event      {event.event_id} at {event.consumer}"
    yield (
        f"state      {name_of(ops_service_pb2.FailedEventState, event.state)}: {event.reason};"
        f" tried {event.attempts} times"
    )
    if event.HasField("next_try_time"):
        yield (
            f"next try   {time(event.next_try_time)}, or when the record that it waits for changes"
        )
    yield f"error      {event.error or '-'}"
    yield f"says       {event.type} on {event.subject}, about {event.aggregate_id or '-'}"
    yield (
        f"published  {time(event.event_time)}, failed first {time(event.first_fail_time)}, changed"
        f" {time(event.update_time)}"
    )
    yield f"digest     {event.digest or '-'}"
    yield (
        f"payload    {len(event.payload)}"
        f" bytes{'' if event.payload_json else ', which this service cannot read'}"
    )


def outboxes(found: Mapping[str, ops_service_pb2.GetOutboxStatsResponse]) -> Table:
    """Returns one row for each service."""
    rows = [
        (
            name,
            stats.stream,
            str(stats.waiting_count),
            time(stats.oldest_waiting_time)[:SECONDS]
            if stats.HasField("oldest_waiting_time")
            else "-",
            str(stats.kept_count),
            str(stats.highest_stream_seq),
        )
        for name, stats in found.items()
    ]
    return Table(
        ("SERVICE", "STREAM", "WAITING", "OLDEST", "KEPT", "PUBLISHED UP TO"),
        rows,
        frozenset({2, 4, 5}),
    )


def refused_events(found: Mapping[str, ops_service_pb2.GetOutboxStatsResponse]) -> Table | None:
    """Returns one row for each event that its stream refuses; None if there is none."""
    rows = [
        (
            name,
            event.aggregate_id,
            event.event_id,
            event.type,
            str(event.payload_bytes),
            time(event.create_time)[:SECONDS],
            event.refusal,
        )
        for name, stats in found.items()
        for event in stats.refused_events
    ]
    headings = ("SERVICE", "BLOCKED AGGREGATE", "REFUSED EVENT", "TYPE", "BYTES", "SINCE", "WHY")
    return Table(headings, rows, frozenset({4})) if rows else None


def republished(found: Mapping[str, ops_service_pb2.RepublishEventsResponse]) -> Table:
    """Returns one row for each service."""
    return Table(
        ("SERVICE", "EVENTS"),
        [(name, str(answer.event_count)) for name, answer in found.items()],
        frozenset({1}),
    )
