"""The records of an order, with its lines, fulfilments and history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from chassis.values.money import Money
from order_svc.lifecycle import (
    CANCELLED_OR_FAILED,
    DEDUCTED_STATUSES,
    PAYMENT_STATUS_BY_OUTCOME,
    SHIPPED_STATES,
    STOCK_STATUS_BY_COMMIT,
    Commit,
    FulfillmentState,
    PaymentOutcome,
    PaymentStatus,
    Progress,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    ShipmentOutcome,
    Status,
    StockStatus,
    closed,
    order_status_from,
    progress_of,
    status_of,
)
from order_svc.model.history import StatusTransition
from order_svc.model.returns import Return, ReturnTransition

LATE_EVENTS_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The name and address that an order ships to. No other record holds them."""

    name: str
    address_lines: tuple[str, ...]
    locality: str
    administrative_area: str
    postal_code: str
    country_code: str
    email: str
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Some units of a line that cost the same: `amount` minor units each, with discount and tax."""

    quantity: int
    amount: int
    discount: int
    tax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Units of a line that one warehouse serves: `quantity` remain, 0 where all were cancelled.

    `shipped`: units that left that warehouse, as fulfilment has reported; None before. It is
    greater than `quantity` where a cut came too late.
    """

    warehouse_id: str
    reservation_id: UUID
    quantity: int
    shipped: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of an order. `discount` and `tax` are the whole line's, with its share of the order's,
    and never change; minor units.

    Units are numbered, in the order of `shares`. Units leave the line from the first one on, in the
    order in which they are cancelled or refunded as returned.
    """

    number: int
    sku: str
    quantity: int
    cancelled: int
    unit_price: int
    discount: int
    tax: int
    allocations: tuple[Allocation, ...] = ()

    @property
    def subtotal(self) -> int:
        return self.unit_price * self.quantity

    @property
    def total(self) -> int:
        return self.subtotal - self.discount + self.tax

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each unit costs, the first units first: they add up to the total, also when units
        are cancelled or returned later.
        """
        (discount, discounts_more), (tax, taxes_more) = (
            divmod(self.discount, self.quantity),
            divmod(self.tax, self.quantity),
        )
        bounds = sorted({0, discounts_more, taxes_more, self.quantity})
        shares = []
        for start, end in pairwise(bounds):
            of_discount, of_tax = discount + (start < discounts_more), tax + (start < taxes_more)
            shares.append(
                Share(
                    quantity=end - start,
                    amount=self.unit_price - of_discount + of_tax,
                    discount=of_discount,
                    tax=of_tax,
                )
            )
        return tuple(shares)

    @property
    def remaining(self) -> int:
        """Units that were not cancelled."""
        return self.quantity - self.cancelled

    def cost_of(self, units: int) -> int:
        """What the line's first `units` units cost together, in minor units."""
        cost = 0
        for share in self.shares:
            taken = min(units, share.quantity)
            cost += taken * share.amount
            units -= taken
        return cost


@dataclass(frozen=True, slots=True, kw_only=True)
class WarehouseFulfillment:
    """The fulfilment of one attempt of an order in one warehouse, and its shipment.

    version            the last one that the order service consumed; `state` is of that version
    outcome            of a parcel that did not reach its customer
    withdraw_version   the highest version that was withdrawn: shipments of it and of earlier
                       versions are void or failed; 0: no version
    """

    warehouse_id: str
    attempt: int
    fulfillment_id: UUID | None = None
    version: int = 0
    state: FulfillmentState = FulfillmentState.EXPECTED
    shipment_id: UUID | None = None
    tracking_number: str | None = None
    deliver_time: datetime | None = None
    outcome: ShipmentOutcome | None = None
    withdraw_version: int = 0

    @property
    def order_status(self) -> Status | None:
        """The order status that follows from this fulfilment alone."""
        return order_status_from(
            self.state,
            shipped=self.shipment_id is not None,
            delivered=self.deliver_time is not None,
            has_outcome=self.outcome is not None,
        )

    @property
    def has_shipped(self) -> bool:
        """Whether its goods have a label or are with a carrier, or were. False where the fulfilment
        is cancelled: no goods go with its label.
        """
        if self.state is FulfillmentState.CANCELLED:
            return False
        return self.shipment_id is not None or self.state in SHIPPED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class LateEvent:
    """An event that the order service consumed after the order had ended, and that would have
    changed its status. `cause` is the event's id.
    """

    order_id: UUID
    cause: str
    reason: str
    actor: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms:
    """The part of a checkout that its order keeps unchanged; minor units of `currency`."""

    currency: str
    shipping: int
    customer_id: str | None
    external_reference: str | None
    unique_external_reference: bool = False

    def terms(self) -> dict[str, Any]:
        """Returns these fields by name."""
        return {each.name: getattr(self, each.name) for each in fields(OrderTerms)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(OrderTerms):
    """An order as it stands. Amounts are minor units of `currency`; `checkout_key` is the
    idempotency key of the request that placed it.

    `payment_outcome`, `commit`, `captured` and `refunded` are this attempt's; `late_events` are the
    first LATE_EVENTS_SHOWN after its end.
    """

    id: UUID
    number: str
    checkout_key: str
    status: Status
    reason: str
    attempt: int
    version: int
    payment_outcome: PaymentOutcome
    commit: Commit
    captured: int
    refunded: int
    create_time: datetime
    update_time: datetime
    expire_time: datetime | None
    lines: tuple[Line, ...] = ()
    fulfillments: tuple[WarehouseFulfillment, ...] = ()
    returns: tuple[Return, ...] = ()
    late_events: tuple[LateEvent, ...] = ()
    # of earlier attempts, only of an order that is being tried again: nothing reads them later
    earlier_fulfillments: tuple[WarehouseFulfillment, ...] = ()
    # only of an order that is being placed: it is stored apart, and find_recipient alone loads it
    recipient: Recipient | None = None

    @property
    def payment(self) -> PaymentStatus:
        if self.captured:
            if not self.refunded:
                return PaymentStatus.COMPLETED
            whole = self.refunded >= self.captured
            return PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
        if self.status is Status.CANCELLED and self.payment_outcome is PaymentOutcome.NONE:
            return PaymentStatus.CANCELLED
        return PAYMENT_STATUS_BY_OUTCOME[self.payment_outcome]

    @property
    def without_units(self) -> bool:
        """No unit of it remains."""
        return self.status is Status.CANCELLED or not any(line.remaining for line in self.lines)

    @property
    def fulfillment_status(self) -> Status | None:
        """The order status that follows from all its fulfilments."""
        return status_of(fulfillment.order_status for fulfillment in self.fulfillments)

    @property
    def progress(self) -> Progress:
        """How far its goods are on their way out. Of an order without units, the fulfilments that
        have shipped count; else all of them.
        """
        if not self.fulfillments and not self.without_units:
            return Progress.UNFULFILLED
        return progress_of(
            fulfillment.order_status
            for fulfillment in self.fulfillments
            if fulfillment.has_shipped or not self.without_units
        )

    @property
    def stock(self) -> StockStatus:
        """The state of its stock. Of an order without units, reserved units and those of a pending
        commit count as released at once, and committed ones once fulfilment or the warehouse
        reports it.
        """
        if self.return_progress is ReturnProgress.FULL:
            return StockStatus.RETURNED
        if self.without_units:
            if any(fulfillment.has_shipped for fulfillment in self.fulfillments):
                return StockStatus.DEDUCTED
            stopped = all(
                fulfillment.state is FulfillmentState.CANCELLED for fulfillment in self.fulfillments
            )
            committed = self.commit is Commit.COMMITTED and not stopped
            return StockStatus.COMMITTED if committed else StockStatus.RELEASED
        if DEDUCTED_STATUSES.intersection((self.status, self.fulfillment_status)):
            return StockStatus.DEDUCTED
        return STOCK_STATUS_BY_COMMIT[self.commit]

    @property
    def return_progress(self) -> ReturnProgress:
        if any(order_return.active for order_return in self.returns):
            return ReturnProgress.OPEN
        returned_units = sum(self.returned(line.number) for line in self.lines)
        if not returned_units:
            return ReturnProgress.NONE
        shipped_units = sum(
            line.announced
            for order_return in self.returns
            if order_return.kind is ReturnKind.RECALL
            and order_return.status is not ReturnStatus.CANCELLED
            for line in order_return.lines
        )
        if self.status not in CANCELLED_OR_FAILED:
            shipped_units += sum(line.remaining for line in self.lines)
        full = returned_units >= shipped_units
        return ReturnProgress.FULL if full else ReturnProgress.PARTIAL

    @property
    def placed_total(self) -> int:
        """What it cost when it was placed."""
        return sum(line.total for line in self.lines) + self.shipping

    @property
    def cancelled_amount(self) -> int:
        """What the units cost that were cancelled one by one.

        Of each line: the cost of its cancelled and refunded units together, less its refunds, at
        least 0. So a line never gives back more than it costs, in any order of returns and
        cancellations.
        """
        return sum(self.cancelled_amount_of(line) for line in self.lines)

    def cancelled_amount_of(self, line: Line) -> int:
        """What the line's units cost that were cancelled one by one. No return changes it."""
        if not line.cancelled:
            return 0
        refundable = sum(
            order_return.line(line.number).refundable
            for order_return in self.returns
            if order_return.kind is not ReturnKind.RECALL
        )
        units = min(line.cancelled + refundable, line.quantity)
        return max(0, line.cost_of(units) - self.refunded_of(line.number))

    @property
    def total(self) -> int:
        """What it costs now."""
        return self.placed_total - self.cancelled_amount

    @property
    def closed(self) -> bool:
        """It has ended, and nothing of it is open."""
        states = {fulfillment.state for fulfillment in self.fulfillments}
        returns = {order_return.status for order_return in self.returns}
        refund_due = self.refunded < self.captured
        return closed(self.status, self.stock, states, returns, refund_due=refund_due)

    @property
    def has_returns(self) -> bool:
        """There is a return of it, in any status. An order without one is loaded without a query of
        returns.
        """
        return bool(self.returns)

    def line(self, number: int) -> Line:
        """Its line of this number; a line without units where it has none."""
        none = Line(number=number, sku="", quantity=0, cancelled=0, unit_price=0, discount=0, tax=0)
        return next((line for line in self.lines if line.number == number), none)

    def returned(self, number: int) -> int:
        """Units of the line that came back and were inspected: passed or failed."""
        return sum(
            line.passed + line.failed
            for order_return in self.returns
            for line in order_return.lines
            if line.number == number
        )

    def refunded_of(self, number: int) -> int:
        """What the line's units with a result are refunded with, over all its returns."""
        return sum(order_return.line(number).refund for order_return in self.returns)

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition(StatusTransition[Status]):
    """A row of history: a change of an order's life, or (`old` is `new`) units of it that were
    cancelled.
    """

    order_id: UUID
    attempt: int


# The rows that a decision adds. No row changes later.
Row = Transition | LateEvent | ReturnTransition


# Where the units of each line come from, by line number: as the warehouse answers.
Allocations = Mapping[int, Sequence[Allocation]]
