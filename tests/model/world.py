"""The five services in one process: their own RPCs, consumers, operations, decisions and wire, over
memory in place of PostgreSQL, NATS and gRPC; with their customers, staff and operators.

Inside `with World() as world` the services' operations use these stores. `plan` plans the faults.
"""

import asyncio
import sys
from collections.abc import Awaitable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from types import ModuleType
from typing import Any, Self
from unittest.mock import patch
from uuid import UUID

from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2

import fulfillment_svc.operations.commits
import fulfillment_svc.operations.orders
import fulfillment_svc.wire.responses
import order_svc.operations.cancellation
import order_svc.operations.creation
import order_svc.operations.payments
import order_svc.operations.releasing
import order_svc.wire.returns
import payment_svc.consumers
import payment_svc.operations.payments
import payment_svc.operations.settlement
import shipping_svc.operations.creation
import shipping_svc.operations.recalls
import warehouse_svc.operations.reservations
from chassis.values.errors import Failure
from omctl.names import method_name
from simulator.staff import next_step
from tests.model.memory import Crash, Memory, MemoryWriter, Wire
from tests.model.network import Network
from tests.model.outside import Bank, Carrier
from tests.model.services import (
    WIRES,
    build_operations,
    handlers,
    servicers,
    workers,
)
from tests.model.stores import Accounts, Fulfillments, Orders, Parcels, Stock

RECIPIENT = order_pb2.Recipient(
    name="Ada Example", address_lines=["1 Test Street"], locality="London", country_code="GB"
)
PRICE = Money(currency_code="GBP", units=2, nanos=500_000_000)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class World:
    """The whole model. Attributes are the stores, the network, the bank and the carrier; methods
    are the actions of people.
    """

    def __init__(self) -> None:
        self.now = NOON
        # faults to come, each for one use: "crash", "request", "answer", "bank", "carrier"
        self.plan: list[str] = []
        self.struck: list[str] = []
        self.network = Network(self.clock)
        self.stock, self.accounts, self.parcels = (
            Stock(self.clock),
            Accounts(self.clock),
            Parcels(self.clock),
        )
        self._wire, self._loop, self._patches = (
            Wire(self._point, self._fault),
            asyncio.new_event_loop(),
            ExitStack(),
        )
        self.bank = Bank(lambda: self._strikes("bank"))
        self.carrier = Carrier(self._is_reported, lambda: self._strikes("carrier"))
        self._ids = count(1)
        self.orders = Orders(self.clock)
        self.fulfillments = Fulfillments()

    # --- construction

    def _build(self) -> None:
        channel: Any = self._wire
        bank: Any = self.bank
        carrier: Any = self.carrier
        memory: dict[str, Any] = {
            name: Memory(
                encode=wire.outgoing_event,
                clock=self.clock,
                publish=self.network.publish,
                point=self._point,
            )
            for name, wire in WIRES.items()
        }
        operations = build_operations(memory, channel, bank, carrier)
        self.workers = workers(operations)
        self.servicers = servicers(operations)
        for name, servicer in self.servicers.items():
            self._wire.serve(name, servicer)
        for service, table in handlers(operations).items():
            self.network.subscribe(service, table)

    def __enter__(self) -> Self:
        stores: dict[ModuleType, Any] = {
            warehouse_svc.operations.reservations: self.stock,
        }
        for module, store in stores.items():
            self._patches.enter_context(patch.object(module, "store", store))
            if hasattr(module, "Writer"):
                self._patches.enter_context(patch.object(module, "Writer", MemoryWriter))
        self._patch_functions("order_svc", self.orders)
        self._patch_functions("warehouse_svc", self.stock)
        self._patch_functions("payment_svc", self.accounts)
        self._patch_functions("fulfillment_svc", self.fulfillments)
        self._patch_functions("shipping_svc", self.parcels)
        makers = (
            *stores,
            order_svc.operations.cancellation,
            order_svc.operations.creation,
            order_svc.operations.payments,
            order_svc.operations.releasing,
            payment_svc.consumers,
            payment_svc.operations.payments,
            payment_svc.operations.settlement,
            fulfillment_svc.operations.commits,
            fulfillment_svc.operations.orders,
            shipping_svc.operations.creation,
            shipping_svc.operations.recalls,
        )
        for module in makers:
            if hasattr(module, "uuid7"):
                self._patches.enter_context(patch.object(module, "uuid7", self.new_id))
        self._patches.enter_context(patch("chassis.values.crash_points.point", self._point))
        self._patches.enter_context(
            patch.object(order_svc.operations.releasing, "BACK_OFF_S", (0.0, 0.0))
        )
        # after the patches: an Operations builds its Writer of the store that it imports
        self._build()
        return self

    def _patch_functions(self, service: str, store: Any) -> None:
        """Replaces what the service's composition and operations import from its store, by name."""
        names = [
            n for n in sys.modules if n.startswith((f"{service}.app", f"{service}.operations."))
        ]
        for module in (sys.modules[name] for name in names):
            for name, value in list(vars(module).items()):
                if str(getattr(value, "__module__", "")).startswith(f"{service}.store."):
                    if hasattr(store, name):
                        self._patches.enter_context(
                            patch.object(module, name, getattr(store, name))
                        )
                elif name == "Writer":
                    self._patches.enter_context(patch.object(module, name, MemoryWriter))

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        self._loop.close()

    # --- faults

    def clock(self) -> datetime:
        return self.now

    def new_id(self) -> UUID:
        """Returns a UUIDv7 that is the same in each run of the same steps."""
        number, milliseconds = next(self._ids), int(self.now.timestamp() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | 0b10 << 62 | number)

    def _strikes(self, fault: str) -> bool:
        if self.plan and self.plan[0] == fault:
            self.struck.append(self.plan.pop(0))
            return True
        return False

    def _point(self, _: str) -> None:
        if self.plan and self.plan[0] == "wait":
            self.plan.pop(0)
        elif self._strikes("crash"):
            raise Crash

    def _fault(self, _: str) -> str:
        return next((fault for fault in ("request", "answer") if self._strikes(fault)), "")

    def run(self, work: Awaitable[Any]) -> Any:
        """Returns the result: an answer, the raised Failure, or None if the process crashed."""

        async def outcome() -> Any:
            try:
                return await work
            except Failure as failure:
                return failure
            except Crash:
                return None

        return self._loop.run_until_complete(outcome())

    # --- actions of people; each returns an answer, a Failure, or None (a crash)

    def call(self, request: Any) -> Any:
        """Calls the method that takes this request."""
        method = method_name(request)
        servicer = next(each for each in self.servicers.values() if method in vars(type(each)))
        return self.run(getattr(servicer, method)(request, None))

    def request_id(self) -> str:
        return str(UUID(int=next(self._ids) | 4 << 76 | 0b10 << 62))

    def receive(self, warehouse_id: str, **quantities: int) -> Any:
        lines = [
            inventory_service_pb2.ReceivedLine(sku=sku, quantity=quantity)
            for sku, quantity in quantities.items()
        ]
        return self.call(
            inventory_service_pb2.ReceiveStockRequest(
                request_id=self.request_id(), warehouse_id=warehouse_id, lines=lines
            )
        )

    def checkout(self, *lines: tuple[str, int]) -> order_service_pb2.CreateOrderRequest:
        items = [
            order_service_pb2.NewOrderItem(sku=sku, quantity=quantity, unit_price=PRICE)
            for sku, quantity in lines
        ]
        return order_service_pb2.CreateOrderRequest(
            request_id=self.request_id(), items=items, recipient=RECIPIENT
        )

    def payment(self, order_id: UUID, token: str) -> payment_service_pb2.CreatePaymentRequest:
        return payment_service_pb2.CreatePaymentRequest(
            request_id=self.request_id(), order_id=str(order_id), payment_method_token=token
        )

    def step(self, fulfillment_id: UUID) -> Any:
        """Takes the next step of the staff for this fulfilment."""
        step = next_step(
            fulfillment_svc.wire.responses.fulfillment(self.fulfillments.by_id[fulfillment_id])
        )
        return self.call(step) if step else None

    def report(self, shipment_id: UUID, status: str) -> Any:
        """The carrier reports this status."""
        item = self.parcels.shipments[shipment_id]
        request = shipping_service_pb2.RecordTrackingEventRequest(
            request_id=self.request_id(),
            carrier=item.carrier,
            tracking_number=item.tracking_number or "",
            carrier_event_id=self.request_id(),
            status=shipping_pb2.ShipmentStatus.Value(f"SHIPMENT_STATUS_{status}"),
        )
        request.occur_time.FromDatetime(self.now)
        return self.call(request)

    def deliver(self, number: int, *, keep: bool = False) -> str:
        """Hands a waiting message to its service; `keep`: its acknowledgement is lost."""
        return str(self.run(self.network.deliver(self.network.waiting[number], keep=keep)))

    def work(self, worker: str) -> Any:
        """Executes one iteration of a worker."""
        return self.run(self.workers[worker]())

    def pass_time(self, time: timedelta) -> None:
        self.now += time

    # --- rest

    def come_to_rest(self) -> None:
        """Ends all faults: every message is consumed, every worker runs, the staff finish their
        work, and parcels return.
        """
        self.plan.clear()
        for _ in range(60):
            before = self.state()
            for waiting in list(self.network.waiting):
                self.run(self.network.deliver(waiting))
            self.pass_time(timedelta(minutes=40))
            for worker in self.workers:
                outcome = self.work(worker)
                assert not isinstance(outcome, Failure), (worker, outcome)
            for id in list(self.fulfillments.by_id):
                self.step(id)
            self._carry()
            self._take_back()
            self._fill_shelves()
            if not self.network.waiting and self.state() == before:
                return
        raise AssertionError(
            f"it does not come to rest; waiting: {[str(each) for each in self.network.waiting]}"
        )

    def state(self) -> object:
        """Returns the whole state that can change."""
        stores = (
            self.orders.orders,
            self.stock.order_reservations,
            self.accounts.accounts,
            self.fulfillments.orders,
            self.parcels.shipments,
        )
        return [dict(store) for store in stores], len(self.stock.ledger)

    def _carry(self) -> None:
        for item in list(self.parcels.shipments.values()):
            if item.tracking_number and item.status in ("created", "in_transit"):
                self.report(item.id, "RETURNED_TO_SENDER" if item.recall_time else "DELIVERED")

    def _fill_shelves(self) -> None:
        """An operator receives the shelf's missing units of a parcel that left after its void, and
        replays the event.
        """
        for waiting, failure in list(self.network.failed):
            if failure.reason == "SHELF_SHORTAGE":
                for short in failure.violations:
                    self.receive(
                        failure.metadata["warehouse_id"],
                        **{short.subject: int(short.description.split()[0])},
                    )
                self.network.failed.remove((waiting, failure))
                self.network.waiting.append(waiting)

    def _take_back(self) -> None:
        """Receives and inspects the returns: the first line's units pass, the others are
        damaged.
        """
        for order in list(self.orders.orders.values()):
            for each in order.returns:
                item = order_svc.wire.returns.order_return(each)
                if item.status in OPEN_RETURNS:
                    self.advance_return(item)

    def advance_return(self, item: return_pb2.Return) -> None:
        """Takes one step of an open return."""
        if item.status == return_pb2.RETURN_STATUS_REQUESTED:
            self.call(
                return_service_pb2.ApproveReturnRequest(
                    request_id=self.request_id(), return_id=item.return_id
                )
            )
        elif item.status == return_pb2.RETURN_STATUS_RECEIVED:
            uninspected = [
                (
                    line.line_number,
                    line.received_quantity - line.passed_quantity - line.failed_quantity,
                )
                for line in item.lines
            ]
            lines = [
                return_service_pb2.InspectedReturnLine(
                    line_number=n, **{"passed_quantity" if n == 1 else "failed_quantity": units}
                )
                for n, units in uninspected
                if units
            ]
            self.call(
                return_service_pb2.InspectReturnRequest(
                    request_id=self.request_id(), return_id=item.return_id, lines=lines
                )
            )
        else:
            announced = [
                (line.line_number, line.announced_quantity)
                for line in item.lines
                if line.announced_quantity
            ]
            received = [
                return_service_pb2.ReceivedReturnLine(line_number=n, quantity=units)
                for n, units in announced
            ]
            self.call(
                return_service_pb2.ReceiveReturnRequest(
                    request_id=self.request_id(),
                    return_id=item.return_id,
                    warehouse_id="london",
                    lines=received,
                )
            )

    def _is_reported(self, number: str) -> bool:
        return any(
            self.parcels.shipments[row.shipment_id].tracking_number == number
            for row in self.parcels.reports
        )


OPEN_RETURNS = frozenset(
    {
        return_pb2.RETURN_STATUS_REQUESTED,
        return_pb2.RETURN_STATUS_APPROVED,
        return_pb2.RETURN_STATUS_IN_TRANSIT,
        return_pb2.RETURN_STATUS_RECEIVED,
    }
)
