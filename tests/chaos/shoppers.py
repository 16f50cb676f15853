"""Shoppers at work: each acts as planned (scenarios.py), by public methods alone, and records the
answers.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2

from chassis.values.errors import Exists, Failure, NotFound
from chassis.values.money import Money as Amount
from chassis.values.money import from_message, to_message
from tests.chaos.calls import Calls, GaveUp, why
from tests.chaos.scenarios import (
    CHANGE_THEIR_MIND,
    MANUAL,
    NEVER_CAPTURED,
    PRICES,
    Afterwards,
    Scenario,
    Turn,
)

LOOK_S: Final = 0.8
BATCH: Final = 100
CHECKOUT_TIMEOUT_S: Final = 20.0
CURRENCY: Final = "GBP"
RECIPIENT: Final = order_pb2.Recipient(
    name="Ada Example", address_lines=["1 Test Street"], locality="London", country_code="GB"
)
ENDS: Final = frozenset(
    {
        order_pb2.ORDER_STATUS_DELIVERED,
        order_pb2.ORDER_STATUS_CANCELLED,
        order_pb2.ORDER_STATUS_REFUNDED,
        order_pb2.ORDER_STATUS_FAILED,
    }
)


@dataclass(slots=True, kw_only=True)
class Story:
    """The answers to a shopper. `refusals` are legitimate; the other answers are checked at the end
    of the run.
    """

    scenario: Scenario
    order_id: str = ""
    captured: bool = False
    cancelled: bool = False
    cancelled_units: dict[int, int] = field(default_factory=dict)
    return_ids: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


class Lookout:
    """Polls all orders that shoppers wait for, together."""

    def __init__(self, calls: Calls) -> None:
        self.orders: dict[str, order_pb2.Order] = {}
        self._calls, self._waiting, self._news = calls, dict[str, int](), asyncio.Condition()

    async def run(self) -> None:
        """Polls until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)  # the interval of polling
            waiting = list(self._waiting)
            for start in range(0, len(waiting), BATCH):
                await self._look(waiting[start : start + BATCH])
            async with self._news:
                self._news.notify_all()

    async def until(
        self, order_id: str, condition: Callable[[order_pb2.Order], bool]
    ) -> order_pb2.Order:
        """Waits until the order fulfils the condition."""
        self._waiting[order_id] = self._waiting.get(order_id, 0) + 1
        try:
            async with self._news:
                await self._news.wait_for(
                    lambda: order_id in self.orders and condition(self.orders[order_id])
                )
            return self.orders[order_id]
        finally:
            self._waiting[order_id] -= 1
            if not self._waiting[order_id]:
                del self._waiting[order_id]

    async def _look(self, order_ids: Sequence[str]) -> None:
        request = order_service_pb2.BatchGetOrdersRequest(order_ids=order_ids)
        try:
            found = (await self._calls.ask(self._calls.orders.BatchGetOrders, request)).orders
        except (GaveUp, NotFound):
            return  # the verdict finds a lost order
        for order in found:
            self.orders[order.order_id] = order


class Shopper:
    """One shopper."""

    def __init__(self, scenario: Scenario, calls: Calls, lookout: Lookout, run: UUID) -> None:
        """`run` makes request_ids that no other run has."""
        self.story = Story(scenario=scenario)
        self._scenario, self._calls, self._lookout = scenario, calls, lookout
        self._key = uuid5(run, scenario.name)

    async def live(self, known: dict[str, Scenario]) -> None:
        """Executes the whole plan. Raises only bugs of the harness: a refusal is stored in the
        story.
        """
        await self._bravely(self._shop(known))

    async def _shop(self, known: dict[str, Scenario]) -> None:
        items = [
            order_service_pb2.NewOrderItem(
                sku=sku, quantity=quantity, unit_price=_pence(PRICES[sku])
            )
            for sku, quantity in self._scenario.basket
        ]
        checkout = order_service_pb2.CreateOrderRequest(
            request_id=self._id("CreateOrder"),
            external_reference=self._scenario.name,
            items=items,
            # so that units of a line cost different amounts
            discount_amount=_pence(self._scenario.number % 7),
            shipping_amount=_pence(399 * (self._scenario.number % 2)),
            recipient=RECIPIENT,
        )
        # A shopper without an answer leaves. An order that was placed is then unpaid, and expires.
        placed = await self._calls.ask(
            self._calls.orders.CreateOrder,
            checkout,
            again=self._scenario.again,
            answer_timeout_s=CHECKOUT_TIMEOUT_S,
        )
        order: order_pb2.Order = placed.order
        self.story.order_id = order.order_id
        known[order.order_id] = self._scenario
        if self._scenario.turn is Turn.ABANDON:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bravely(self._turn(order)))
            group.create_task(self._bravely(self._pay(order)))
        order = await self._lookout.until(order.order_id, lambda seen: seen.status in ENDS)
        if order.status == order_pb2.ORDER_STATUS_FAILED and self._scenario.retries:
            order = await self._retry(order)
        if order.status == order_pb2.ORDER_STATUS_DELIVERED:
            await self._after(order)

    async def _bravely(self, part: Any) -> None:
        """Executes a part of the plan; its refusal does not end the other parts."""
        try:
            await part
        except Failure as failure:
            self.story.refusals.append(why(failure))
        except GaveUp as gave_up:
            self.story.refusals.append(f"gave up: {gave_up}")

    # --- paying

    async def _pay(self, order: order_pb2.Order) -> None:
        for number, card in enumerate(self._scenario.cards, 1):
            request = payment_service_pb2.CreatePaymentRequest(
                request_id=self._id(f"CreatePayment:{order.attempt}:{number}"),
                order_id=order.order_id,
                payment_method_token=card,
                expected_amount=order.total_amount,
                manual_capture=card in MANUAL,
            )
            again = self._scenario.again and card not in CHANGE_THEIR_MIND
            try:
                payment = (
                    await self._calls.ask(self._calls.payments.CreatePayment, request, again=again)
                ).payment
            except Exists:
                return
            except Failure as failure:
                if failure.reason != "PAYMENT_DECLINED":
                    raise
                continue
            await self._capture(payment, card)
            return

    async def _capture(self, payment: payment_pb2.Payment, card: str) -> None:
        """Captures by a call, if the card requires it."""
        if (
            card in MANUAL - NEVER_CAPTURED
            and payment.status == payment_pb2.PAYMENT_STATUS_AUTHORIZED
        ):
            request = payment_service_pb2.CapturePaymentRequest(
                request_id=self._id("CapturePayment"), payment_id=payment.payment_id
            )
            payment = (
                await self._calls.ask(
                    self._calls.payments.CapturePayment, request, again=self._scenario.again
                )
            ).payment
        self.story.captured = payment.status == payment_pb2.PAYMENT_STATUS_CAPTURED

    async def _retry(self, order: order_pb2.Order) -> order_pb2.Order:
        request = order_service_pb2.RetryOrderRequest(
            request_id=self._id("RetryOrder"), order_id=order.order_id
        )
        order = await self._order(self._calls.orders.RetryOrder, request)
        await self._pay(order)
        return await self._lookout.until(
            order.order_id, lambda seen: seen.status in ENDS and seen.version > order.version
        )

    # --- changes of mind

    async def _turn(self, order: order_pb2.Order) -> None:
        await asyncio.sleep(self._scenario.turn_s)  # the plan's time to a change of mind
        if self._scenario.turn in (Turn.CANCEL_ITEMS, Turn.BOTH):
            await self._bravely(self._cancel_items(order))
        if self._scenario.turn in (Turn.CANCEL, Turn.BOTH):
            request = order_service_pb2.CancelOrderRequest(
                request_id=self._id("CancelOrder"), order_id=order.order_id
            )
            await self._order(self._calls.orders.CancelOrder, request)
            self.story.cancelled = True
        if self._scenario.turn is Turn.GIVE_UP:
            await self._give_up(order)

    async def _cancel_items(self, order: order_pb2.Order) -> None:
        line, units = order.items[0].line_number, max(1, order.items[0].quantity // 2)
        request = order_service_pb2.CancelOrderItemsRequest(
            request_id=self._id("CancelOrderItems"),
            order_id=order.order_id,
            lines=[order_service_pb2.CancelledLine(line_number=line, quantity=units)],
        )
        await self._order(self._calls.orders.CancelOrderItems, request)
        self.story.cancelled_units[line] = units

    async def _give_up(self, order: order_pb2.Order) -> None:
        """The warehouse cancels the order's first fulfilment, if it still can."""
        listed = fulfillment_service_pb2.ListFulfillmentsRequest(order_id=order.order_id)
        for work in (
            await self._calls.ask(self._calls.fulfillments.ListFulfillments, listed)
        ).fulfillments[:1]:
            request = fulfillment_service_pb2.CancelFulfillmentRequest(
                request_id=self._id("CancelFulfillment"),
                fulfillment_id=work.fulfillment_id,
                note="the roof is leaking",
            )
            await self._calls.ask(
                self._calls.fulfillments.CancelFulfillment, request, again=self._scenario.again
            )

    # --- after the delivery

    async def _after(self, order: order_pb2.Order) -> None:
        match self._scenario.afterwards:
            case Afterwards.RETURN:
                await self._return(order, whole=True)
            case Afterwards.RETURN_SOME:
                await self._return(order, whole=False)
            case Afterwards.CALL_OFF:
                made = await self._return(order, whole=False)
                request = return_service_pb2.CancelReturnRequest(
                    request_id=self._id("CancelReturn"), return_id=made.return_id
                )
                await self._calls.ask(
                    self._calls.returns.CancelReturn, request, again=self._scenario.again
                )
            case Afterwards.WITHOUT_GOODS:
                await self._return(order, whole=False, disposition=1 + self._scenario.number % 3)
            case Afterwards.GOODWILL:
                await self._goodwill(order, 100)
            case Afterwards.REFUND_MEETS_RETURN:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._bravely(self._return(order, whole=True)))
                    group.create_task(
                        self._bravely(
                            self._goodwill(order, from_message(order.total_amount).minor // 2)
                        )
                    )

    async def _return(
        self, order: order_pb2.Order, *, whole: bool, disposition: int = 0
    ) -> return_pb2.Return:
        kept = [
            (item.line_number, sum(place.quantity for place in item.allocations))
            for item in order.items
        ]
        lines = [
            return_service_pb2.NewReturnLine(
                line_number=line,
                quantity=units if whole else 1,
                disposition=disposition,  # type: ignore[arg-type]  # a number of the enum
            )
            for line, units in kept
            if units
        ]
        request = return_service_pb2.CreateReturnRequest(
            request_id=self._id("CreateReturn"),
            order_id=order.order_id,
            lines=lines,
            reason="CHANGED_MIND",
            without_goods=bool(disposition),
            warehouse_id="london" if disposition > 1 else None,
        )
        answer = await self._calls.ask(
            self._calls.returns.CreateReturn, request, again=self._scenario.again
        )
        made: return_pb2.Return = answer.order_return
        self.story.return_ids.append(made.return_id)
        return made

    async def _goodwill(self, order: order_pb2.Order, amount: int) -> None:
        listed = payment_service_pb2.ListPaymentsRequest(order_id=order.order_id)
        payments = (await self._calls.ask(self._calls.payments.ListPayments, listed)).payments
        for payment in [
            each
            for each in payments
            if each.attempt == order.attempt and each.captured_amount.currency_code
        ][:1]:
            if amount:
                request = payment_service_pb2.RefundPaymentRequest(
                    request_id=self._id("RefundPayment"),
                    payment_id=payment.payment_id,
                    amount=_pence(amount),
                )
                await self._calls.ask(
                    self._calls.payments.RefundPayment, request, again=self._scenario.again
                )

    # --- requests

    async def _order(self, method: Any, request: Any) -> order_pb2.Order:
        order: order_pb2.Order = (
            await self._calls.ask(method, request, again=self._scenario.again)
        ).order
        return order

    def _id(self, step: str) -> str:
        return str(uuid5(self._key, step))


class Shop:
    """All shoppers of a run. `known` gets the scenario of each order, for the staff."""

    def __init__(self, calls: Calls, lookout: Lookout, known: dict[str, Scenario]) -> None:
        self._calls, self._lookout, self._known = calls, lookout, known
        self._run = uuid4()
        self._shoppers: list[Shopper] = []
        self._lives: list[asyncio.Task[None]] = []

    def expect(self, scenario: Scenario, began: float) -> None:
        """Starts another shopper when it is due, counted from `began` (monotonic)."""
        shopper = Shopper(
            scenario=scenario, calls=self._calls, lookout=self._lookout, run=self._run
        )
        self._shoppers.append(shopper)
        self._lives.append(asyncio.create_task(self._live(shopper, began + scenario.at_s)))

    async def close(self, timeout_s: float) -> list[Story]:
        """Waits until all shoppers have ended, and cancels the others after `timeout_s`; returns
        their stories.
        """
        _, waiting = await asyncio.wait(self._lives, timeout=timeout_s)
        for life in waiting:
            life.cancel()
        for ended in await asyncio.gather(*self._lives, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        return [shopper.story for shopper in self._shoppers]

    async def _live(self, shopper: Shopper, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))  # until the plan's time
        await shopper.live(self._known)


def _pence(amount: int) -> Money:
    return to_message(Amount(amount, CURRENCY))
