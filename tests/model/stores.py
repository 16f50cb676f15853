"""The services' stores in memory: for each the functions of its store.py that its operations call,
over dictionaries.

Each stands in for the module `store` of the service's operations; the SQL has its tests on a real
PostgreSQL.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.values.envelope import Envelope
from chassis.values.paging import Page
from fulfillment_svc.lifecycle import Status as WorkStatus
from fulfillment_svc.model import Fulfillment, Job
from fulfillment_svc.model import Work as FulfillmentWork
from order_svc.model import Order, PlaceOrder, Recipient, Return
from payment_svc.model import Account, Payment
from shipping_svc.lifecycle import TERMINAL as SHIPMENT_ENDS
from shipping_svc.lifecycle import Status as ShipmentStatus
from shipping_svc.model.commands import AskForShipment, RecordReport
from shipping_svc.model.records import (
    DeadFulfillment,
    DeadOrder,
    Graves,
    KeptLabel,
    Label,
    RecallClosed,
    RecallOpened,
    Shipment,
    TrackingEvent,
)
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model import (
    AdjustStock,
    Holding,
    Lapsed,
    Movement,
    Picture,
    Place,
    ReceiveStock,
    StockLevel,
)

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
    ) -> dict[UUID, Order]:
        ids = {*repeats, *(each.target for each in envelopes)}
        found = {id: self.orders[id] for id in ids if id in self.orders}
        by_checkout = {order.checkout: order for order in self.orders.values()}
        return found | {
            each.target: by_checkout[each.command.checkout_key]
            for each in envelopes
            if isinstance(each.command, PlaceOrder) and each.command.checkout_key in by_checkout
        }

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

    async def order_of_checkout(self, _: None, checkout: str) -> UUID | None:
        return next(
            (order.id for order in self.orders.values() if order.checkout == checkout), None
        )

    async def find_orders(self, _: None, ids: Collection[UUID]) -> dict[UUID, Order]:
        return {id: self.orders[id] for id in ids if id in self.orders}

    async def count_lines_of(self, _: None, ids: Collection[UUID]) -> dict[UUID, int]:
        return {id: len(self.orders[id].lines) for id in ids if id in self.orders}

    async def expired(self, _: None, after: Any, most: int) -> list[tuple[datetime, UUID]]:
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
                for each in order.rmas
                if each.id == return_id
            ),
            None,
        )

    async def find_returns(self, _: None, ids: Collection[UUID]) -> dict[UUID, Return]:
        return {
            each.id: each for order in self.orders.values() for each in order.rmas if each.id in ids
        }


class Stock:
    """warehouse_svc.store. Whoever writes sees all stock: which rows a set must lock is the
    store's own business.
    """

    def __init__(self, clock: Clock) -> None:
        self.levels: dict[Place, StockLevel] = {}
        self.holdings: dict[UUID, Holding] = {}
        self.ledger: list[Movement] = []
        self._clock = clock

    async def lock_stock(
        self, _: None, commands: Sequence[Any], repeats: Collection[UUID]
    ) -> Picture:
        requests = {
            c.target for c in commands if isinstance(c.command, (ReceiveStock, AdjustStock))
        }
        wanted = {*repeats, *(c.target for c in commands)} - requests
        booked: dict[UUID, dict[tuple[UUID | None, int | None, MovementKind], int]] = {}
        for row in self.ledger:
            of_source = booked.setdefault(row.source_id, {})
            key = (row.order_id, row.line_number, row.kind)
            of_source[key] = of_source.get(key, 0) + row.quantity
        return Picture(
            levels=self.levels.values(),
            holdings=[self.holdings[id] for id in wanted if id in self.holdings],
            requests=requests,
            booked=booked,
        )

    async def save_stock(
        self,
        _: None,
        before: Mapping[UUID, Any],
        after: Mapping[UUID, Any],
        booked: Sequence[Movement],
    ) -> None:
        for view in after.values():
            for place, level in view.stock.items():
                if place not in self.levels or level.version > self.levels[place].version:
                    self.levels[place] = level
            if view.holding:
                self.holdings[view.holding.order_id] = view.holding
        self.ledger += booked

    async def line_bytes_of(self, _: None, orders: Collection[UUID]) -> dict[UUID, int]:
        return {}  # few orders of few units: no answer is large

    async def clock(self, _: None) -> datetime:
        return self._clock()

    async def lapsed(self, _: None, after: Any, most: int) -> list[Lapsed]:
        now, held = self._clock(), [r for h in self.holdings.values() for r in h.reservations]
        return (
            []
            if after
            else [
                Lapsed(r.expire_time, r.id, r.order_id)
                for r in held
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
    ) -> dict[UUID, Account]:
        return {
            id: self.accounts[id]
            for id in {*repeats, *(c.target for c in commands)}
            if id in self.accounts
        }

    async def save_accounts(
        self, _: None, before: Any, after: Mapping[UUID, Account], changes: Sequence[Any]
    ) -> None:
        self.accounts |= after

    async def find_account(self, _: None, order_id: UUID) -> Account | None:
        return self.accounts.get(order_id)

    async def find_payment(self, _: None, payment_id: UUID) -> Payment | None:
        return next(
            (
                p
                for account in self.accounts.values()
                for p in account.payments
                if p.id == payment_id
            ),
            None,
        )

    async def due_operations(self, _: None, limit: int) -> list[tuple[UUID, UUID, int]]:
        now = self._clock()
        open_ = [
            (p.order_id, o)
            for account in self.accounts.values()
            for p in account.payments
            for o in p.operations
            if o.next_lookup_time
        ]
        return [
            (order_id, o.id, o.lookups)
            for order_id, o in open_
            if o.next_lookup_time and o.next_lookup_time <= now
        ]


class Jobs:
    """fulfillment_svc.store."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}

    @property
    def works(self) -> dict[UUID, Fulfillment]:
        """Every fulfilment, by its id."""
        return {each.id: each for job in self.jobs.values() for each in job.fulfillments}

    async def lock_jobs(
        self, _: None, commands: Sequence[Any], repeats: Collection[UUID]
    ) -> dict[UUID, Job]:
        works, picture = self.works, dict[UUID, Job]()
        for id in {*repeats, *(c.target for c in commands)}:
            job = self.jobs.get(works[id].work.order_id if id in works else id)
            if job:
                picture |= dict.fromkeys(
                    [job.order_id, *(each.id for each in job.fulfillments)], job
                )
        return picture

    async def save_jobs(
        self, _: None, before: Any, after: Mapping[UUID, Job], steps: Sequence[Any]
    ) -> None:
        self.jobs |= {job.order_id: job for job in after.values()}

    async def find_fulfillments(self, _: None, ids: Collection[UUID]) -> dict[UUID, Fulfillment]:
        works = self.works
        return {id: works[id] for id in ids if id in works}

    async def works_of(self, _: None, orders: Collection[UUID]) -> set[FulfillmentWork]:
        return {
            each.work for id in orders if id in self.jobs for each in self.jobs[id].fulfillments
        }

    async def versions_of(self, _: None, orders: Collection[UUID]) -> dict[UUID, int]:
        jobs = [self.jobs[id] for id in orders if id in self.jobs]
        return {job.order_id: job.kept.version for job in jobs if job.kept}

    async def find_owed(self, _: None, after: UUID, most: int) -> list[Fulfillment]:
        waiting = [
            each
            for each in self.works.values()
            if each.status is WorkStatus.PLANNING and not each.stock_committed
        ]
        return sorted((each for each in waiting if each.id > after), key=lambda each: each.id)[
            :most
        ]


class Parcels:
    """shipping_svc.store."""

    def __init__(self, clock: Clock) -> None:
        self.shipments: dict[UUID, Shipment] = {}
        self.dead: dict[UUID, DeadOrder] = {}
        self.gone: dict[UUID, DeadFulfillment] = {}
        self.labels: dict[UUID, Label] = {}
        self.recalls: dict[tuple[UUID, int], RecallOpened] = {}  # not answered by the carrier
        self.reports: list[TrackingEvent] = []
        self._clock = clock

    async def lock_shipments(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> dict[UUID, Shipment]:
        found = {
            id: self.shipments[id]
            for id in {*repeats, *(each.target for each in envelopes)}
            if id in self.shipments
        }
        last = {s.fulfillment_id: s for s in self.shipments.values()}
        for target, command in ((each.target, each.command) for each in envelopes):
            if isinstance(command, AskForShipment):
                its = last.get(command.wanted.fulfillment_id)
                if its and not its.followed_by(command.wanted):
                    found[target] = its
            if isinstance(command, RecordReport) and target in found:
                known = frozenset(
                    row.report.carrier_event_id for row in self.reports if row.shipment_id == target
                )
                found[target] = replace(found[target], known_reports=known)
        return found

    async def save_shipments(
        self, _: None, before: Any, after: Mapping[UUID, Shipment], rows: Sequence[Any]
    ) -> None:
        self.shipments |= {shipment.id: shipment for shipment in after.values()}
        for row in rows:
            match row:
                case TrackingEvent():
                    self.reports.append(row)
                case KeptLabel(shipment_id, label):
                    self.labels[shipment_id] = label
                case RecallOpened():
                    self.recalls[row.shipment_id, row.purchase] = row
                case RecallClosed():
                    its = self.recalls.get((row.shipment_id, row.purchase))
                    if its and its.tracking_number == row.tracking_number:
                        del self.recalls[row.shipment_id, row.purchase]

    async def find_shipments(self, _: None, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        return {id: self.shipments[id] for id in ids if id in self.shipments}

    async def find_fulfillments(self, _: None, ids: Collection[UUID]) -> dict[UUID, int]:
        found: dict[UUID, int] = {}
        for its in self.shipments.values():
            if its.fulfillment_id in ids:
                version = max(its.fulfillment_version, its.withdraw_version or 0)
                found[its.fulfillment_id] = max(version, found.get(its.fulfillment_id, 0))
        return found

    async def find_orders(self, _: None, ids: Collection[UUID]) -> set[UUID]:
        return ({s.order_id for s in self.shipments.values()} | self.dead.keys()) & set(ids)

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

    async def begin_tries_due(self, _: None, patience_s: float, most: int) -> list[UUID]:
        return [s.id for s in self.shipments.values() if s.status is ShipmentStatus.PENDING]

    async def waiting_labels(self, _: None) -> tuple[int, float]:
        return 0, 0.0

    async def find_living(
        self, _: None, *, order_ids: Collection[UUID] = (), fulfillment_ids: Collection[UUID] = ()
    ) -> list[Shipment]:
        alive = [
            s
            for s in self.shipments.values()
            if s.status not in SHIPMENT_ENDS and not s.recall_time
        ]
        return [s for s in alive if s.order_id in order_ids or s.fulfillment_id in fulfillment_ids]

    async def find_recalls(self, _: None, ids: Collection[UUID]) -> list[RecallOpened]:
        return [
            its for its in self.recalls.values() if its.shipment_id in ids and its.tracking_number
        ]

    async def begin_recalls_due(self, _: None, patience_s: float, most: int) -> list[RecallOpened]:
        return list(self.recalls.values())

    async def open_recalls(self, _: None) -> tuple[int, float]:
        return 0, 0.0

    async def find_graves(
        self, _: None, order_ids: Collection[UUID], fulfillment_ids: Collection[UUID]
    ) -> Graves:
        return Graves(
            {id: self.dead[id] for id in order_ids if id in self.dead},
            self.gone.keys() & set(fulfillment_ids),
        )

    async def lock_dead_orders(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> dict[UUID, DeadOrder]:
        return {
            id: self.dead[id]
            for id in {*repeats, *(each.target for each in envelopes)}
            if id in self.dead
        }

    async def save_dead_orders(
        self, _: None, before: Any, after: Mapping[UUID, DeadOrder], rows: Sequence[None]
    ) -> None:
        self.dead |= after

    async def lock_dead_fulfillments(
        self, _: None, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
    ) -> dict[UUID, DeadFulfillment]:
        return {
            id: self.gone[id]
            for id in {*repeats, *(each.target for each in envelopes)}
            if id in self.gone
        }

    async def save_dead_fulfillments(
        self, _: None, before: Any, after: Mapping[UUID, DeadFulfillment], rows: Sequence[None]
    ) -> None:
        self.gone |= after

    async def list_tracking_events(
        self, _: None, shipment_id: UUID, page: Page
    ) -> list[TrackingEvent]:
        return [row for row in self.reports if row.shipment_id == shipment_id]
