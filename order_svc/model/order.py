"""The order and its parts, what its units cost, what is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from chassis.values.money import Money
from order_svc.lifecycle import (
    End,
    PaymentStatus,
    Progress,
    ReturnKind,
    ReturnProgress,
    Status,
    StockStatus,
    Work,
    closed,
    standing,
)
from order_svc.model.returns import Return, ReturnStep

LATE_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who receives an order. Names and addresses are nowhere else."""

    name: str
    address_lines: tuple[str, ...]
    locality: str
    administrative_area: str
    postal_code: str
    country_code: str
    email: str
    phone: str


@dataclass(frozen=True, slots=True)
class Share:
    """Some units of a line that cost the same: `amount` is price − discount + tax of each, in
    minor units.
    """

    quantity: int
    amount: int
    discount: int
    tax: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of a line that one warehouse serves: those that stay. None stay where all were
    cancelled.

    `shipped`: units that left that warehouse, as fulfilment has told; None before. More than stay:
    a cut came too late.
    """

    warehouse_id: str
    reservation_id: UUID
    quantity: int
    shipped: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an order. `discount` and `tax` are the whole line's, with its part of the order's,
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
        """What each unit costs, the first units first: they add up to the total, whatever units
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
    def staying(self) -> int:
        """Units that were not cancelled."""
        return self.quantity - self.cancelled

    def worth(self, units: int) -> int:
        """What the line's first `units` units cost together, in minor units."""
        cost = 0
        for share in self.shares:
            taken = min(units, share.quantity)
            cost += taken * share.amount
            units -= taken
        return cost


@dataclass(frozen=True, slots=True)
class Part:
    """What the order has last heard of one warehouse that serves it: from fulfilment (version and
    work) and from shipping.

    `ended`: the parcel did not reach its customer. `withdraw_version`: shipments of this version of
    the fulfilment, and of earlier ones, are void or failed; 0: none is.
    """

    warehouse_id: str
    attempt: int
    fulfillment_id: UUID | None = None
    version: int = 0
    work: Work = Work.EXPECTED
    shipment_id: UUID | None = None
    tracking_number: str | None = None
    deliver_time: datetime | None = None
    ended: End | None = None
    withdraw_version: int = 0

    @property
    def standing(self) -> Status | None:
        return standing(
            self.work,
            shipped=self.shipment_id is not None,
            delivered=self.deliver_time is not None,
            ended=self.ended is not None,
        )


@dataclass(frozen=True, slots=True)
class LateEvent:
    """What was told of an order after its end, and would have moved it; `cause` is the event's
    id.
    """

    order_id: UUID
    cause: str
    reason: str
    actor: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands. Amounts are minor units of `currency`; `checkout` is the key of the
    request that placed it.

    `captured` and `refunded` are this attempt's; `late` are the first LATE_SHOWN that were told
    after its end.
    """

    id: UUID
    number: str
    checkout: str
    customer_id: str | None
    external_reference: str | None
    status: Status
    reason: str
    attempt: int
    version: int
    payment: PaymentStatus
    progress: Progress
    stock: StockStatus
    returns: ReturnProgress
    currency: str
    shipping: int
    captured: int
    refunded: int
    create_time: datetime
    update_time: datetime
    expire_time: datetime | None
    unique_external_reference: bool = False
    lines: tuple[Line, ...] = ()
    parts: tuple[Part, ...] = ()
    rmas: tuple[Return, ...] = ()
    late: tuple[LateEvent, ...] = ()
    # only of an order that is being placed: it is stored apart, and loaded for nobody but its door
    recipient: Recipient | None = None

    @property
    def placed_total(self) -> int:
        """What it cost when it was placed."""
        return sum(line.total for line in self.lines) + self.shipping

    @property
    def cancelled_amount(self) -> int:
        """What the units cost that were cancelled one by one: what all cancelled and refunded units
        of a line cost, less its refunds.

        So a line whose units were partly returned before others were cancelled gives back exactly
        what it costs. Units may be refunded as returned, and turn out afterwards never to have
        left: never does more go back than the line costs.
        """
        return sum(self.cancelled_amount_of(line) for line in self.lines)

    def cancelled_amount_of(self, line: Line) -> int:
        """What the line's units cost that were cancelled one by one. No return changes it."""
        if not line.cancelled:
            return 0
        refundable = sum(
            rma.line(line.number).refundable
            for rma in self.rmas
            if rma.kind is not ReturnKind.RECALL
        )
        gone = min(line.cancelled + refundable, line.quantity)
        return max(0, line.worth(gone) - self.refunded_of(line.number))

    @property
    def total(self) -> int:
        """What it costs now."""
        return self.placed_total - self.cancelled_amount

    @property
    def closed(self) -> bool:
        """It has ended, and nothing of it is open."""
        works = {part.work for part in self.parts}
        returns = {rma.status for rma in self.rmas}
        refund_due = self.refunded < self.captured
        return closed(self.status, self.stock, works, returns, refund_due=refund_due)

    @property
    def has_returns(self) -> bool:
        """There is a return of it, whatever became of that: who loads the order need not look
        for returns otherwise.
        """
        return bool(self.rmas)

    def line(self, number: int) -> Line | None:
        return next((line for line in self.lines if line.number == number), None)

    def returned(self, number: int) -> int:
        """Units of the line that came back and were inspected, whatever the inspector said."""
        return sum(
            line.passed + line.failed
            for rma in self.rmas
            for line in rma.lines
            if line.number == number
        )

    def refunded_of(self, number: int) -> int:
        """What the accepted units of the line are refunded with, over all its returns."""
        return sum(rma.line(number).refund for rma in self.rmas)

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of history: a step of an order's life, or (`old` is `new`) units of it that were
    cancelled.

    `cause` is the causing event's id, or the call's request_id. `claimed_actor` and `note` are the
    call's, and None for an event.
    """

    order_id: UUID
    version: int
    attempt: int
    old: Status | None
    new: Status
    reason: str
    actor: str
    cause: str
    time: datetime
    claimed_actor: str | None = None
    note: str | None = None


# What a decision adds to what is only ever added to.
Row = Transition | LateEvent | ReturnStep


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The fact that is told of each step: the step, and the order as it stood after it."""

    order: Order
    step: Transition


@dataclass(frozen=True, slots=True)
class ItemsCancelled:
    """The fact that is told of units that were cancelled: the row of history, and the order as
    it stood after it.
    """

    order: Order
    step: Transition


# Where the units of each line come from, by line number: what the warehouse answers.
Allocations = Mapping[int, Sequence[Allocation]]


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list shows; what is None or empty filters nothing."""

    statuses: tuple[Status, ...] = ()
    customer_id: str | None = None
    external_reference: str | None = None
    number: str | None = None
    create_time_from: datetime | None = None
    create_time_before: datetime | None = None
    stock: StockStatus | None = None
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
