"""The services' stores in memory: for each the functions of its store that its operations call,
over dictionaries.

Each replaces the module `store` of the service's operations; the SQL has its tests on PostgreSQL.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.values.envelope import Envelope
from chassis.values.paging import Page
from chassis.write.workspace import Workspace
from fulfillment_svc.lifecycle import Status as WorkStatus
from fulfillment_svc.model.records import Fulfillment, FulfillmentKey, OrderFulfillments
from order_svc.lifecycle import Status as OrderStatus
from order_svc.model.records import Order, Recipient
from order_svc.model.returns import Return
from order_svc.store.workspace import OrderWorkspace, placing_targets
from payment_svc.model.records import Account, Payment
from shipping_svc.lifecycle import TERMINAL as SHIPMENT_ENDS
from shipping_svc.lifecycle import Status as ShipmentStatus
from shipping_svc.model.commands import CreateShipment, RecordReport
from shipping_svc.model.records import (
    BoughtLabel,
    ClosedFulfillment,
    ClosedOrder,
    ClosedOrders,
    Label,
    RecallClosed,
    RecallOpened,
    Shipment,
    TrackingEvent,
)
from shipping_svc.store.workspace import ShipmentWorkspace
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.commands import AdjustStock, ReceiveStock
from warehouse_svc.model.records import (
    Movement,
    OrderReservations,
    OrderStock,
    OverdueReservation,
    Place,
    StockLevel,
)
from warehouse_svc.store.workspace import StockWorkspace

Clock = Callable[[], datetime]


class Orders:
    """order_svc.store."""

    def __init__(self, clock: Clock) -> None:
        self.orders: dict[UUID, Order] = {}
        self.recipients: dict[UUID, Recipient | None] = {}
        self.history: list[Any] = []
        self._clock = clock

    async def lock_orders(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> OrderWorkspace:
        ids, placing = {*repeats, *(each.target for each in envelopes)}, placing_targets(envelopes)
        found = [o for o in self.orders.values() if o.id in ids or o.checkout_key in placing]
        return OrderWorkspace(found, placing)

    async def save_orders(
        self,
        _: None,
        before: Mapping[UUID, Order],
        after: Mapping[UUID, Order],
        steps: Sequence[Any],
    ) -> None:
        self.orders |= {order.id: order for order in after.values()}
        self.recipients |= {
            order.id: order.recipient for id, order in after.items() if id not in before
        }
        self.history += steps

    async def order_of_checkout(self, _: None, checkout_key: str) -> UUID | None:
        return next((o.id for o in self.orders.values() if o.checkout_key == checkout_key), None)

    async def find_orders(self, _: None, ids: Collection[UUID]) -> dict[UUID, Order]:
        return {id: self.orders[id] for id in ids if id in self.orders}

    async def find_pending_orders(self, _: None, ids: Collection[UUID]) -> dict[UUID, Order]:
        pending = {id: self.orders[id] for id in ids if id in self.orders}
        return {id: order for id, order in pending.items() if order.status is OrderStatus.PENDING}

    async def count_lines_of(self, _: None, ids: Collection[UUID]) -> dict[UUID, int]:
        return {id: len(self.orders[id].lines) for id in ids if id in self.orders}

    async def find_expired(self, _: None, after: Any, most: int) -> list[tuple[datetime, UUID]]:
        now = self._clock()
        return (
            []
            if after
            else [
                (at, order.id)
                for order in self.orders.values()
                for at in [order.expire_time]
                if at and at <= now
            ]
        )

    async def find_recipient(self, _: None, order_id: UUID) -> Recipient | None:
        return self.recipients.get(order_id)

    async def order_of_return(self, _: None, return_id: UUID) -> UUID | None:
        return next(
            (
                order.id
                for order in self.orders.values()
                for each in order.returns
                if each.id == return_id
            ),
            None,
        )

    async def find_returns(self, _: None, ids: Collection[UUID]) -> dict[UUID, Return]:
        return {
            each.id: each
            for order in self.orders.values()
            for each in order.returns
            if each.id in ids
        }


class Stock:
    """warehouse_svc.store. Each write gets all stock levels; the real store determines the rows
    that a set locks.
    """

    def __init__(self, clock: Clock) -> None:
        self.levels: dict[Place, StockLevel] = {}
        self.order_reservations: dict[UUID, OrderReservations] = {}
        self.ledger: list[Movement] = []
        self._clock = clock

    async def lock_stock(
        self, _: None, commands: Sequence[Any], repeats: Collection[UUID]
    ) -> StockWorkspace:
        requests = {
            c.target for c in commands if isinstance(c.command, (ReceiveStock, AdjustStock))
        }
        wanted = {*repeats, *(c.target for c in commands)} - requests
        posted: dict[UUID, dict[tuple[UUID | None, int | None, MovementKind], int]] = {}
        for row in self.ledger:
            of_source = posted.setdefault(row.source_id, {})
            key = (row.order_id, row.line_number, row.kind)
            of_source[key] = of_source.get(key, 0) + row.quantity
        return StockWorkspace(
            {id: self.order_reservations[id] for id in wanted if id in self.order_reservations},
            OrderStock(self.levels, posted=posted),
        )

    async def save_stock(
        self,
        _: None,
        before: Mapping[UUID, Any],
        after: Mapping[UUID, Any],
        posted: Sequence[Movement],
    ) -> None:
        for record in after.values():
            for place, level in record.levels.items():
                if place not in self.levels or level.version > self.levels[place].version:
                    self.levels[place] = level
            if record.order_reservations:
                order_id = record.order_reservations.order_id
                self.order_reservations[order_id] = record.order_reservations
        self.ledger += posted

    async def line_bytes_of(self, _: None, orders: Collection[UUID]) -> dict[UUID, int]:
        return {}  # few orders of few units: no answer is large

    async def clock(self, _: None) -> datetime:
        return self._clock()

    async def find_overdue(self, _: None, after: Any, most: int) -> list[OverdueReservation]:
        now = self._clock()
        reservations = [r for each in self.order_reservations.values() for r in each.reservations]
        return (
            []
            if after
            else [
                OverdueReservation(r.expire_time, r.id, r.order_id)
                for r in reservations
                if r.status == "active" and r.expire_time <= now
            ]
        )


class Accounts:
    """payment_svc.store."""

    def __init__(self, clock: Clock) -> None:
        self.accounts: dict[UUID, Account] = {}
        self._clock = clock

    async def lock_accounts(
        self, _: None, commands: Sequence[Any], repeats: Collection[UUID]
    ) -> Workspace[Account]:
        targets = {*repeats, *(c.target for c in commands)}
        return Workspace({id: self.accounts[id] for id in targets if id in self.accounts})

    async def save_accounts(
        self, _: None, before: Any, after: Mapping[UUID, Account], changes: Sequence[Any]
    ) -> None:
        self.accounts |= after

    async def find_account(self, _: None, order_id: UUID) -> Account | None:
        return self.accounts.get(order_id)

    async def find_payment(self, _: None, payment_id: UUID) -> Payment | None:
        return next((p for p in self._payments() if p.id == payment_id), None)

    async def due_operations(self, _: None, limit: int) -> list[tuple[UUID, UUID, int]]:
        now = self._clock()
        return [
            (p.order_id, o.id, o.lookups)
            for p in self._payments()
            for o in p.operations
            if o.next_lookup_time and o.next_lookup_time <= now
        ]

    def _payments(self) -> Iterator[Payment]:
        for account in self.accounts.values():
            yield from account.payments


class Fulfillments:
    """fulfillment_svc.store."""

    def __init__(self) -> None:
        self.orders: dict[UUID, OrderFulfillments] = {}

    @property
    def by_id(self) -> dict[UUID, Fulfillment]:
        """Returns every fulfilment by its id."""
        return {each.id: each for order in self.orders.values() for each in order.fulfillments}

    async def lock_order_fulfillments(
        self, _: None, commands: Sequence[Any], repeats: Collection[UUID]
    ) -> Workspace[OrderFulfillments]:
        by_id = self.by_id
        targets = {*repeats, *(c.target for c in commands)}
        wanted = {by_id[id].key.order_id if id in by_id else id for id in targets}
        orders = {id: self.orders[id] for id in wanted if id in self.orders}
        names = {each.id: id for id, order in orders.items() for each in order.fulfillments}
        return Workspace(orders, names)

    async def save_order_fulfillments(
        self, _: None, before: Any, after: Mapping[UUID, OrderFulfillments], steps: Sequence[Any]
    ) -> None:
        self.orders |= {order.order_id: order for order in after.values()}

    async def find_fulfillments(self, _: None, ids: Collection[UUID]) -> dict[UUID, Fulfillment]:
        by_id = self.by_id
        return {id: by_id[id] for id in ids if id in by_id}

    async def find_keys(self, _: None, orders: Collection[UUID]) -> set[FulfillmentKey]:
        return {
            each.key for id in orders if id in self.orders for each in self.orders[id].fulfillments
        }

    async def find_versions(self, _: None, orders: Collection[UUID]) -> dict[UUID, int]:
        known = [self.orders[id] for id in orders if id in self.orders]
        return {order.order_id: order.remaining.version for order in known if order.remaining}

    async def find_commit_pending(self, _: None, after: UUID, most: int) -> list[Fulfillment]:
        waiting = [
            each
            for each in self.by_id.values()
            if each.status is WorkStatus.PLANNING and not each.stock_committed
        ]
        return sorted((each for each in waiting if each.id > after), key=lambda each: each.id)[
            :most
        ]


class Parcels:
    """shipping_svc.store."""

    def __init__(self, clock: Clock) -> None:
        self.shipments: dict[UUID, Shipment] = {}
        self.closed_orders: dict[UUID, ClosedOrder] = {}
        self.closed_fulfillments: dict[UUID, ClosedFulfillment] = {}
        self.labels: dict[UUID, Label] = {}
        self.recalls: dict[tuple[UUID, int], RecallOpened] = {}  # not answered by the carrier
        self.reports: list[TrackingEvent] = []
        self._clock = clock

    async def lock_shipments(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> ShipmentWorkspace:
        commands = [(each.target, each.command) for each in envelopes]
        requests = {
            target: command.request
            for target, command in commands
            if isinstance(command, CreateShipment)
        }
        ids = {*repeats, *(target for target, _ in commands)}
        fulfillment_ids = {request.fulfillment_id for request in requests.values()}
        found = {
            shipment.id: shipment
            for shipment in self.shipments.values()
            if shipment.id in ids or shipment.fulfillment_id in fulfillment_ids
        }
        for target, command in commands:
            if isinstance(command, RecordReport) and target in found:
                recorded = frozenset(
                    row.report.carrier_event_id for row in self.reports if row.shipment_id == target
                )
                found[target] = replace(found[target], recorded_reports=recorded)
        return ShipmentWorkspace(found, requests=requests, sold={}, holders={})

    async def save_shipments(
        self, _: None, before: Any, after: Mapping[UUID, Shipment], rows: Sequence[Any]
    ) -> None:
        self.shipments |= {shipment.id: shipment for shipment in after.values()}
        for row in rows:
            match row:
                case TrackingEvent():
                    self.reports.append(row)
                case BoughtLabel(shipment_id, label):
                    self.labels[shipment_id] = label
                case RecallOpened():
                    self.recalls[row.shipment_id, row.purchase] = row
                case RecallClosed():
                    recall = self.recalls.get((row.shipment_id, row.purchase))
                    if recall and recall.tracking_number == row.tracking_number:
                        del self.recalls[row.shipment_id, row.purchase]

    async def find_shipments(self, _: None, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        return {id: self.shipments[id] for id in ids if id in self.shipments}

    async def find_fulfillments(self, _: None, ids: Collection[UUID]) -> dict[UUID, int]:
        found: dict[UUID, int] = {}
        for shipment in self.shipments.values():
            if shipment.fulfillment_id in ids:
                version = max(shipment.fulfillment_version, shipment.withdraw_version or 0)
                found[shipment.fulfillment_id] = max(version, found.get(shipment.fulfillment_id, 0))
        return found

    async def find_known_orders(self, _: None, ids: Collection[UUID]) -> set[UUID]:
        return ({s.order_id for s in self.shipments.values()} | self.closed_orders.keys()) & set(
            ids
        )

    async def find_reported(
        self, _: None, carrier: str, number: str, carrier_event_id: str
    ) -> UUID | None:
        return next(
            (
                s.id
                for s in self.shipments.values()
                if (s.carrier, s.tracking_number) == (carrier, number)
            ),
            None,
        )

    async def start_due_label_tries(self, _: None, retry_s: float, most: int) -> list[UUID]:
        return [s.id for s in self.shipments.values() if s.status is ShipmentStatus.PENDING]

    async def count_pending_labels(self, _: None) -> tuple[int, float]:
        return 0, 0.0

    async def find_open_shipments(
        self, _: None, *, order_ids: Collection[UUID] = (), fulfillment_ids: Collection[UUID] = ()
    ) -> list[Shipment]:
        open_shipments = [
            s
            for s in self.shipments.values()
            if s.status not in SHIPMENT_ENDS and not s.recall_time
        ]
        return [
            s
            for s in open_shipments
            if s.order_id in order_ids or s.fulfillment_id in fulfillment_ids
        ]

    async def find_recalls(self, _: None, ids: Collection[UUID]) -> list[RecallOpened]:
        return [
            recall
            for recall in self.recalls.values()
            if recall.shipment_id in ids and recall.tracking_number
        ]

    async def start_due_recall_tries(
        self, _: None, retry_s: float, most: int
    ) -> list[RecallOpened]:
        return list(self.recalls.values())

    async def count_open_recalls(self, _: None) -> tuple[int, float]:
        return 0, 0.0

    async def find_closed(
        self, _: None, order_ids: Collection[UUID], fulfillment_ids: Collection[UUID]
    ) -> ClosedOrders:
        return ClosedOrders(
            {id: self.closed_orders[id] for id in order_ids if id in self.closed_orders},
            self.closed_fulfillments.keys() & set(fulfillment_ids),
        )

    async def lock_closed_orders(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> Workspace[ClosedOrder]:
        targets = {*repeats, *(each.target for each in envelopes)}
        return Workspace({id: self.closed_orders[id] for id in targets if id in self.closed_orders})

    async def save_closed_orders(
        self, _: None, before: Any, after: Mapping[UUID, ClosedOrder], rows: Sequence[None]
    ) -> None:
        self.closed_orders |= after

    async def lock_closed_fulfillments(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> Workspace[ClosedFulfillment]:
        targets = {*repeats, *(each.target for each in envelopes)}
        return Workspace(
            {id: self.closed_fulfillments[id] for id in targets if id in self.closed_fulfillments}
        )

    async def save_closed_fulfillments(
        self, _: None, before: Any, after: Mapping[UUID, ClosedFulfillment], rows: Sequence[None]
    ) -> None:
        self.closed_fulfillments |= after

    async def list_tracking_events(
        self, _: None, shipment_id: UUID, page: Page
    ) -> list[TrackingEvent]:
        return [row for row in self.reports if row.shipment_id == shipment_id]
