"""Reads the state of a model's world: the facts that an audit compares, and the shipped units. No
tests here.
"""

from collections import Counter

from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1.fulfillment_pb2 import Fulfillment
from ordermesh.ops.v1 import ops_service_pb2

import fulfillment_svc.wire.responses
import order_svc.wire.responses
import order_svc.wire.returns
import payment_svc.wire.responses
import shipping_svc.wire.responses
import warehouse_svc.wire.responses
from chassis.values.errors import Failure
from omctl.audit.facts import Facts
from payment_svc.lifecycle import Kind
from tests.model.world import World
from warehouse_svc.lifecycle import MovementKind


def read_facts(world: World) -> Facts:
    """Returns the facts that `omctl audit` reads by the services' methods."""
    orders = {
        str(order.id): order_svc.wire.responses.order(order)
        for order in world.orders.orders.values()
    }
    payments = [p for account in world.accounts.accounts.values() for p in account.payments]
    return Facts(
        time=world.now,
        orders=orders,
        returns=[
            order_svc.wire.returns.order_return(each)
            for order in world.orders.orders.values()
            for each in order.returns
        ],
        levels=[
            warehouse_svc.wire.responses.stock_level(level) for level in world.stock.levels.values()
        ],
        movements=[warehouse_svc.wire.responses.movement(row) for row in world.stock.ledger],
        reservations=[
            warehouse_svc.wire.responses.reservation(r)
            for h in world.stock.order_reservations.values()
            for r in h.reservations
        ],
        payments=[payment_svc.wire.responses.payment(p) for p in payments],
        refunds=[
            payment_svc.wire.responses.refund(p.refund(o))
            for p in payments
            for o in p.operations
            if o.kind is Kind.REFUND
        ],
        fulfillments=[
            fulfillment_svc.wire.responses.fulfillment(each)
            for each in world.fulfillments.by_id.values()
        ],
        shipments=[
            shipping_svc.wire.responses.shipment(each) for each in world.parcels.shipments.values()
        ],
        failed={
            "all": [
                failed_event(waiting.service, failure) for waiting, failure in world.network.failed
            ]
        },
        outboxes={},
    )


def carried_off(world: World) -> Counter[tuple[str, str, int]]:
    """Returns the units that the carrier has reported: by order, warehouse and line, as they
    were packed.
    """
    packed: dict[tuple[str, int], Fulfillment] = {}
    for sent in world.network.history:
        if sent.kind is FulfillmentStatusChanged:
            event = FulfillmentStatusChanged.FromString(sent.payload)
            if event.new_status == fulfillment_pb2.FULFILLMENT_STATUS_READY:
                packed[event.fulfillment.fulfillment_id, event.fulfillment.version] = (
                    event.fulfillment
                )
    units: Counter[tuple[str, str, int]] = Counter()
    for id in {row.shipment_id for row in world.parcels.reports}:
        shipment = world.parcels.shipments[id]
        ready = max(
            version
            for work, version in packed
            if work == str(shipment.fulfillment_id) and version <= shipment.fulfillment_version
        )
        for item in (
            item
            for package in packed[str(shipment.fulfillment_id), ready].packages
            for item in package.items
        ):
            units[str(shipment.order_id), shipment.warehouse_id, item.line_number] += item.quantity
    return units


def posted_shipments(world: World) -> Counter[tuple[str, str, int]]:
    """Returns the units that the warehouse has posted as shipped."""
    units: Counter[tuple[str, str, int]] = Counter()
    for row in world.stock.ledger:
        if row.kind in (MovementKind.SHIP, MovementKind.SHIP_SHELF):
            units[str(row.order_id), row.warehouse_id, row.line_number or 0] += row.quantity
    return units


def failed_event(service: str, failure: Failure) -> ops_service_pb2.FailedEvent:
    return ops_service_pb2.FailedEvent(
        consumer=service,
        state=ops_service_pb2.FAILED_EVENT_STATE_FAILED,
        reason=failure.reason,
        error=failure.message,
    )
