"""Any sequence of people's actions and of faults on the model, with the rules that hold after each
step and at rest. No tests here."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.order.v1 import order_service_pb2, return_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.shipping.v1 import shipping_service_pb2
from ordermesh.warehouse.v1 import reservation_service_pb2

import order_svc.wire.returns
from chassis.values.errors import Defect
from fulfillment_svc.lifecycle import Status as WorkStatus
from omctl.audit import stock
from omctl.audit.audit import STUCK_AFTER, differences
from order_svc.lifecycle import MOVES, Status
from tests.model.outside import DECLINED
from tests.model.reading import carried_off, posted_shipments, read_facts
from tests.model.world import OPEN_RETURNS, World

ORDERS_MAX = 3


RESTING = {Status.CANCELLED, Status.DELIVERED, Status.REFUNDED, Status.FAILED}


mostly_false = st.sampled_from([True, False, False, False])


indexes = st.integers(0, 99)  # the index is taken modulo the count of records


class Shop(RuleBasedStateMachine):
    """Few orders of few units in two warehouses, so that actions meet."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World().__enter__()
        self.sent: list[Any] = []  # successful requests, to be repeated later

    def teardown(self) -> None:
        try:
            self._check_at_rest()
        finally:
            self.world.__exit__()

    # --- actions of people

    @initialize(lamps=st.integers(1, 4), rounds=st.integers(0, 12))
    def open(self, lamps: int, rounds: int) -> None:
        """The shelves are filled, and a first order is paid and has gone through some steps."""
        self.world.receive("london", lamp=3, bulb=2)
        self.world.receive("paris", lamp=2)
        self.place(lamps=lamps, bulbs=1)
        self.pay(index=0, token="tok_ok")
        self.a_quiet_day(rounds=rounds)

    @precondition(lambda self: len(self.world.orders.orders) < ORDERS_MAX)
    @rule(lamps=st.integers(1, 4), bulbs=st.integers(0, 1))
    def place(self, lamps: int, bulbs: int) -> None:
        self._send(self.world.checkout(("lamp", lamps), *([("bulb", bulbs)] if bulbs else [])))

    @precondition(lambda self: self.world.orders.orders)
    @rule(index=indexes, token=st.sampled_from(["tok_ok", "tok_ok", "tok_ok", DECLINED]))
    def pay(self, index: int, token: str) -> None:
        self._send(self.world.payment(self._order(index), token))

    @precondition(lambda self: self.world.orders.orders)
    @rule(index=indexes, really=mostly_false)
    def cancel(self, index: int, really: bool) -> None:
        if really:
            self._send(
                order_service_pb2.CancelOrderRequest(
                    request_id=self.world.request_id(), order_id=str(self._order(index))
                )
            )

    @precondition(lambda self: self.world.orders.orders)
    @rule(index=indexes, units=st.integers(1, 2))
    def cancel_items(self, index: int, units: int) -> None:
        line = order_service_pb2.CancelledLine(line_number=1, quantity=units)
        self._send(
            order_service_pb2.CancelOrderItemsRequest(
                request_id=self.world.request_id(), order_id=str(self._order(index)), lines=[line]
            )
        )

    @precondition(lambda self: self.world.orders.orders)
    @rule(index=indexes, really=mostly_false)
    def take_its_stock_away(self, index: int, really: bool) -> None:
        """An operator releases the order's reserved units at the warehouse: a payment then fails
        the order.
        """
        if really:
            attempt = reservation_service_pb2.OrderAttempt(
                order_id=str(self._order(index)), attempt=1
            )
            self._send(
                reservation_service_pb2.ReleaseReservationRequest(
                    request_id=self.world.request_id(), order_attempt=attempt
                )
            )

    @precondition(
        lambda self: any(
            order.status is Status.FAILED for order in self.world.orders.orders.values()
        )
    )
    @rule(index=indexes)
    def retry(self, index: int) -> None:
        self._send(
            order_service_pb2.RetryOrderRequest(
                request_id=self.world.request_id(), order_id=str(self._order(index))
            )
        )

    @precondition(lambda self: self.world.fulfillments.by_id)
    @rule(index=indexes)
    def work(self, index: int) -> None:
        self._sound(self.world.step(self._work(index)))

    @precondition(
        lambda self: any(
            w.status is WorkStatus.PICKING for w in self.world.fulfillments.by_id.values()
        )
    )
    @rule(index=indexes)
    def close_short(self, index: int) -> None:
        item = self.world.fulfillments.by_id[self._work(index)]
        request = fulfillment_service_pb2.CompletePickingRequest(
            request_id=self.world.request_id(),
            fulfillment_id=str(item.id),
            short_line_numbers=[line.line_number for line in item.lines],
        )
        self._send(request)

    @precondition(
        lambda self: any(
            w.status is WorkStatus.PACKED for w in self.world.fulfillments.by_id.values()
        )
    )
    @rule(index=indexes)
    def spoil(self, index: int) -> None:
        spoiled = [fulfillment_service_pb2.SpoiledUnits(line_number=1, quantity=1)]
        request = fulfillment_service_pb2.RecordInspectionRequest(
            request_id=self.world.request_id(),
            fulfillment_id=str(self._work(index)),
            passed=False,
            spoiled=spoiled,
        )
        self._send(request)

    @precondition(lambda self: self.world.fulfillments.by_id)
    @rule(index=indexes, really=mostly_false)
    def give_work_up(self, index: int, really: bool) -> None:
        if really:
            self._send(
                fulfillment_service_pb2.CancelFulfillmentRequest(
                    request_id=self.world.request_id(), fulfillment_id=str(self._work(index))
                )
            )

    @precondition(lambda self: self.world.parcels.shipments)
    @rule(
        index=indexes,
        status=st.sampled_from(
            ["IN_TRANSIT", "DELIVERED", "DELIVERED", "LOST", "RETURNED_TO_SENDER"]
        ),
    )
    def report(self, index: int, status: str) -> None:
        shipment = self._shipment(index)
        if self.world.parcels.shipments[shipment].tracking_number:
            self._sound(self.world.report(shipment, status))

    @precondition(lambda self: self.world.parcels.shipments)
    @rule(index=indexes)
    def recall(self, index: int) -> None:
        self._send(
            shipping_service_pb2.CancelShipmentRequest(
                request_id=self.world.request_id(), shipment_id=str(self._shipment(index))
            )
        )

    @precondition(
        lambda self: any(
            order.status is Status.DELIVERED for order in self.world.orders.orders.values()
        )
    )
    @rule(index=indexes, units=st.integers(1, 2), without_goods=st.booleans())
    def send_back(self, index: int, units: int, without_goods: bool) -> None:
        disposition = (
            return_pb2.STOCK_DISPOSITION_NONE
            if without_goods
            else return_pb2.STOCK_DISPOSITION_UNSPECIFIED
        )
        line = return_service_pb2.NewReturnLine(
            line_number=1, quantity=units, disposition=disposition
        )
        request = return_service_pb2.CreateReturnRequest(
            request_id=self.world.request_id(),
            order_id=str(self._order(index)),
            lines=[line],
            without_goods=without_goods,
        )
        self._send(request)

    @precondition(lambda self: any(order.returns for order in self.world.orders.orders.values()))
    @rule(index=indexes)
    def advance_return(self, index: int) -> None:
        returns = [
            order_svc.wire.returns.order_return(each)
            for order in self.world.orders.orders.values()
            for each in order.returns
        ]
        item = returns[index % len(returns)]
        if item.status in OPEN_RETURNS:
            self.world.advance_return(item)

    @precondition(
        lambda self: any(account.payments for account in self.world.accounts.accounts.values())
    )
    @rule(index=indexes, units=st.sampled_from([None, 1, 2]))
    def refund(self, index: int, units: int | None) -> None:
        payments = [
            p for account in self.world.accounts.accounts.values() for p in account.payments
        ]
        request = payment_service_pb2.RefundPaymentRequest(
            request_id=self.world.request_id(), payment_id=str(payments[index % len(payments)].id)
        )
        if units:
            request.amount.currency_code, request.amount.units = "GBP", units
        self._send(request)

    @precondition(lambda self: self.sent)
    @rule(index=indexes)
    def repeat(self, index: int) -> None:
        """A request is repeated, as after a lost answer."""
        self._sound(self.world.call(self.sent[index % len(self.sent)]))

    # --- automatic work

    @precondition(lambda self: self.world.network.waiting)
    @rule(index=indexes, keep=st.booleans())
    def deliver(self, index: int, keep: bool) -> None:
        """A message is delivered out of order; with `keep` it will come again."""
        self.world.deliver(index % len(self.world.network.waiting), keep=keep)

    @precondition(lambda self: self.world.orders.orders)
    @rule(rounds=st.integers(1, 6))
    def a_quiet_day(self, rounds: int) -> None:
        """Waiting messages are delivered, and all staff take the next step, so that orders
        progress.
        """
        for _ in range(rounds):
            for waiting in list(self.world.network.waiting):
                self.world.run(self.world.network.deliver(waiting))
            for id in list(self.world.fulfillments.by_id):
                self._sound(self.world.step(id))

    @rule(
        worker=st.sampled_from(
            [
                "expire orders",
                "expire reservations",
                "settle",
                "commit pending stock",
                "buy labels",
                "recall",
            ]
        )
    )
    def worker(self, worker: str) -> None:
        self._sound(self.world.work(worker))

    @rule(minutes=st.sampled_from([1, 31, 40]))
    def time_passes(self, minutes: int) -> None:
        self.world.pass_time(timedelta(minutes=minutes))

    @rule(
        faults=st.lists(
            st.sampled_from(["crash", "wait", "request", "answer", "bank", "carrier"]),
            min_size=1,
            max_size=3,
        )
    )
    def trouble_ahead(self, faults: list[str]) -> None:
        """The next steps have faults: a crash at the next point but one, a lost answer and
        others.
        """
        self.world.plan = faults

    # --- invariants

    @invariant()
    def nothing_is_lost_or_oversold(self) -> None:
        facts = read_facts(self.world)
        found = [*stock.ledger.find(facts, STUCK_AFTER), *stock.held_units.find(facts, STUCK_AFTER)]
        assert found == [], found

    @invariant()
    def money_goes_back_at_most_once(self) -> None:
        bank = self.world.bank
        assert all(bank.given[charge] <= bank.taken[charge] for charge in bank.given)
        charged = [
            p
            for account in self.world.accounts.accounts.values()
            for p in account.payments
            if p.captured
        ]
        assert len(charged) == len({(p.order_id, p.attempt) for p in charged})
        assert all(p.refunded + p.refund_pending <= p.captured for p in charged)

    @invariant()
    def every_step_is_a_legal_one(self) -> None:
        versions: dict[UUID, int] = {}
        for step in self.world.orders.history:
            if hasattr(step, "old") and hasattr(step, "order_id") and hasattr(step, "version"):
                assert step.version == versions.get(step.order_id, 0) + 1
                versions[step.order_id] = step.version
                assert step.old is None or step.old is step.new or step.new in MOVES[step.old]

    # --- rest

    def _check_at_rest(self) -> None:
        world = self.world
        world.come_to_rest()
        found = differences(read_facts(world))
        assert found == [], found
        statuses = {order.status for order in world.orders.orders.values()}
        assert statuses <= RESTING, statuses
        net_taken = sum(world.bank.taken.values()) - sum(world.bank.given.values())
        net_captured = sum(
            p.captured - p.refunded
            for account in world.accounts.accounts.values()
            for p in account.payments
        )
        assert net_taken == net_captured, (net_taken, net_captured)
        carried, posted = carried_off(world), posted_shipments(world)
        assert carried <= posted, (carried, posted)
        labels = {
            item.tracking_number: item
            for item in world.parcels.shipments.values()
            if item.tracking_number
        }
        for purchase, (label, parcels) in world.carrier.bought.items():
            item = labels.get(label.tracking_number)
            assert purchase in world.carrier.recalled or (item and item.parcels == parcels), (
                purchase,
                item,
            )

    # --- records by their index

    def _order(self, index: int) -> UUID:
        return sorted(self.world.orders.orders)[index % len(self.world.orders.orders)]

    def _work(self, index: int) -> UUID:
        return sorted(self.world.fulfillments.by_id)[index % len(self.world.fulfillments.by_id)]

    def _shipment(self, index: int) -> UUID:
        return sorted(self.world.parcels.shipments)[index % len(self.world.parcels.shipments)]

    def _send(self, request: Any) -> None:
        self.sent.append(request)
        self._sound(self.world.call(request))

    def _sound(self, answer: Any) -> None:
        """An answer is a result, a refusal or a crash; it is never a defect of the services."""
        assert not isinstance(answer, Defect), repr(answer.__cause__)
