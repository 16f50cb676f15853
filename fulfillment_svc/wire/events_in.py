"""Events of the other services, as commands in envelopes."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import money
from chassis.values.envelope import Envelope, EventSource
from fulfillment_svc.model.commands import (
    Complete,
    ConfirmWithdrawal,
    OrderEvent,
    OrderEventKind,
    Ship,
    ShipmentCommand,
)
from fulfillment_svc.model.records import Line, LinesByWarehouse

C = TypeVar("C")
# Statuses of a shipment whose parcels are still in the warehouse.
IN_WAREHOUSE = frozenset(
    {
        shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED,
        shipping_pb2.SHIPMENT_STATUS_PENDING,
        shipping_pb2.SHIPMENT_STATUS_CREATED,
    }
)


def order_status_changed(
    event: order_events_pb2.OrderStatusChanged,
    source: EventSource,
) -> Envelope[OrderEvent] | None:
    """Returns the event of an order that is confirmed, or that is cancelled after its confirmation.

    None: the event changes nothing.
    """
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        committed = event.stock_status == order_pb2.STOCK_STATUS_COMMITTED
        return _order_event(event, OrderEventKind.CONFIRMED, source, committed=committed)
    if (
        event.new_status == order_pb2.ORDER_STATUS_CANCELLED
        and event.old_status != order_pb2.ORDER_STATUS_PENDING
    ):
        return _order_event(event, OrderEventKind.CANCELLED, source)
    return None


def order_items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    source: EventSource,
) -> Envelope[OrderEvent] | None:
    """Returns the cut; None before the confirmation, whose event has the remaining units."""
    pending = event.status == order_pb2.ORDER_STATUS_PENDING
    return None if pending else _order_event(event, OrderEventKind.CUT, source)


def _order_event(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    kind: OrderEventKind,
    source: EventSource,
    *,
    committed: bool = False,
) -> Envelope[OrderEvent]:
    command = OrderEvent(
        kind=kind,
        order_id=UUID(event.order_id),
        order_number=event.order_number,
        attempt=event.attempt,
        version=event.order_version,
        total=money(event.total_amount, "total_amount"),
        stock_committed=committed,
        lines_by_warehouse=_lines_by_warehouse(event.items),
    )
    return Envelope.of_event(source, command, target=command.order_id, actor="order")


def shipment_created(
    event: shipping_events_pb2.ShipmentCreated, source: EventSource
) -> Envelope[Ship]:
    """Returns the command for a bought label."""
    return _ship(event.shipment, source, shipped=False)


def delivery_confirmed(
    event: shipping_events_pb2.DeliveryConfirmed, source: EventSource
) -> Envelope[Complete]:
    """Returns the command for a delivered shipment."""
    shipment = event.shipment
    command = Complete(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
    )
    return _shipment_envelope(shipment, source, command)


def shipment_status_changed(
    event: shipping_events_pb2.ShipmentStatusChanged,
    source: EventSource,
) -> Envelope[ShipmentCommand] | None:
    """Returns the command from shipping's answer to a withdrawal: the parcels do not leave, or the
    carrier has them.

    None: there is no answer yet, or no withdrawal.
    """
    shipment = event.shipment
    if not shipment.HasField("withdraw_version"):
        return None
    void = shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED
    if void or shipment.status == shipping_pb2.SHIPMENT_STATUS_FAILED:
        confirmation = ConfirmWithdrawal(
            shipment_id=UUID(shipment.shipment_id),
            fulfillment_version=shipment.fulfillment_version,
            label_void=void,
            shipped=shipment.HasField("contradict_time"),
        )
        return _shipment_envelope(shipment, source, confirmation)
    if shipment.status in IN_WAREHOUSE and shipment.status_reason != "WITHDRAWAL_TOO_LATE":
        return None
    return _ship(shipment, source, shipped=True)


def _ship(shipment: shipping_pb2.Shipment, source: EventSource, *, shipped: bool) -> Envelope[Ship]:
    command = Ship(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
        shipped=shipped,
    )
    return _shipment_envelope(shipment, source, command)


def _shipment_envelope(
    shipment: shipping_pb2.Shipment, source: EventSource, command: C
) -> Envelope[C]:
    """Returns the envelope of a command from an event of the shipment."""
    target = UUID(shipment.fulfillment_id)
    return Envelope.of_event(source, command, target=target, actor="shipping")


def _lines_by_warehouse(items: Iterable[order_events_pb2.OrderLine]) -> LinesByWarehouse:
    """Returns the order's lines, by the warehouses that serve them."""
    lines_by_warehouse: defaultdict[str, list[Line]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.line_number):
        of_line: Counter[str] = Counter()
        for allocation in item.allocations:
            of_line[allocation.warehouse_id] += allocation.quantity
        for warehouse_id, quantity in of_line.items():
            if quantity:
                lines_by_warehouse[warehouse_id].append(
                    Line(line_number=item.line_number, sku=item.sku, quantity=quantity)
                )
    return {warehouse_id: tuple(lines) for warehouse_id, lines in lines_by_warehouse.items()}
