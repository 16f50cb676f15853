"""The nouns: a fulfilment with its picklist and packages, what may be asked of it, what is told of it. Pure rules, no I/O.

What an event of the order means for the warehouses, and what the warehouse answers about its stock, stands here as well.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.money import Money
from fulfillment_svc.lifecycle import InspectionRule, Status


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one order line to be picked in this warehouse: 0 <= picked <= quantity."""

    line_number: int
    sku: str
    quantity: int
    picked: int = 0

    @property
    def open(self) -> int:
        """Units that are still to be scanned."""
        return self.quantity - self.picked


@dataclass(frozen=True, slots=True)
class PackedItem:
    """Units of one order line in a parcel."""

    line_number: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Package:
    """A parcel; `number` is 0 until the service has given it one, from 1. Each line stands in it once."""

    number: int
    weight_grams: int
    length_mm: int
    width_mm: int
    height_mm: int
    items: tuple[PackedItem, ...]


@dataclass(frozen=True, slots=True)
class OrderAttempt:
    """What the warehouse commits stock for: all of an attempt's reservations together."""

    order_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Work:
    """What one warehouse is to do for one attempt of an order: together these three name it (a natural key)."""

    order_id: UUID
    warehouse_id: str
    attempt: int

    @property
    def of(self) -> OrderAttempt:
        """The attempt that it is a part of."""
        return OrderAttempt(self.order_id, self.attempt)


# What each warehouse is to pick for an order's attempt.
Shares = Mapping[str, tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Fulfillment:
    """The work of one warehouse for one attempt of an order, as it stands."""

    id: UUID
    work: Work
    order_number: str
    status: Status
    stock_committed: bool
    inspection_rule: InspectionRule | None  # None: no inspection is required
    shipment_id: UUID | None
    version: int
    create_time: datetime
    update_time: datetime
    lines: tuple[Line, ...]  # by line number
    packages: tuple[Package, ...] = ()  # by number


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of history: one for each change of status."""

    fulfillment_id: UUID
    version: int
    old: Status | None
    new: Status
    reason: str
    note: str
    actor: str
    cause: str
    time: datetime


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A fact for the world: the fulfilment as it stood right after the change."""

    fulfillment: Fulfillment
    old: Status | None
    reason: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which fulfilments a list shows; None and empty: any."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: frozenset[Status] = frozenset()


@dataclass(frozen=True, slots=True)
class InspectionPolicy:
    """Which packages are inspected before they leave. The first rule that holds is the one that is told.

    order_values  by currency, in minor units: orders of this total or more
    skus          picklists with one of these
    sample_rate   the share of all fulfilments, 0 to 1; which ones follows from the work alone, so that a repeat decides alike
    """

    order_values: Mapping[str, int] = field(default_factory=dict)
    skus: frozenset[str] = frozenset()
    sample_rate: float = 0.0

    def rule(self, work: Work, total: Money, lines: tuple[Line, ...]) -> InspectionRule | None:
        """The rule by which this work is inspected, if there is one."""
        threshold = self.order_values.get(total.currency)
        if threshold is not None and total.minor >= threshold:
            return InspectionRule.ORDER_VALUE
        if any(line.sku in self.skus for line in lines):
            return InspectionRule.SKU
        return InspectionRule.SAMPLE if _lot(work) < self.sample_rate else None


def _lot(work: Work) -> float:
    """A number in [0, 1), evenly spread over all works, and always the same for one."""
    name = f"{work.order_id}:{work.attempt}:{work.warehouse_id}"
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11) / 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNews:
    """What an event of the order means for the warehouses: work to be done (`live`), or to be stopped. No shares: nothing to them."""

    key: str
    digest: bytes
    cause: str
    order_id: UUID
    order_number: str
    attempt: int
    live: bool
    total: Money
    stock_committed: bool
    shares: Shares

    @property
    def of(self) -> OrderAttempt:
        """The attempt that it tells of."""
        return OrderAttempt(self.order_id, self.attempt)

    @property
    def works(self) -> set[Work]:
        """What its warehouses are to do, or to leave."""
        return {Work(self.order_id, at, self.attempt) for at in self.shares}


@dataclass(frozen=True, slots=True)
class Committed:
    """The stock is the order's for good, and lies where `shares` says: not always where it was reserved at first."""

    shares: Shares


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """The warehouse says no; where that is `final`, it will not say yes later."""

    reason: str
    final: bool


CommitAnswer = Committed | NotCommitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something asked of one fulfilment. `actor` and `cause` (what it came from: a request or an event) go into its history."""

    key: str
    digest: bytes
    target: UUID
    actor: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Command):
    """Create it and build its picklist, or settle the stock that one in planning was still owed. `target` may be a proposed id."""

    work: Work
    order_number: str
    lines: tuple[Line, ...]
    stock_committed: bool
    inspection_rule: InspectionRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Command):
    """The order is dead. Where there is no fulfilment yet, a cancelled one shuts the gate for it; `target` is its proposed id."""

    work: Work
    order_number: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Command):
    """The order's stock was committed elsewhere: this warehouse has nothing to do after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ship(Command):
    """A shipment carries it."""

    shipment_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Command):
    """Its shipment is delivered."""

    shipment_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Command):
    """Something that a person asks for; `expected_version` is the version that was looked at (None: whatever it is)."""

    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPicking(Request):
    """A picker takes the picklist."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Units of one SKU, just scanned."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanItems(Request):
    """Count units off the shelf: all scans or none."""

    scans: tuple[Scan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletePicking(Request):
    """Close the picklist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPacking(Request):
    """A packer takes the goods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack(Request):
    """Close the packages."""

    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordInspection(Request):
    """What the inspector found; `note` says why not."""

    passed: bool
    note: str


Asked = StartPicking | ScanItems | CompletePicking | StartPacking | Pack | RecordInspection
FulfillmentCommand = Plan | Withdraw | Cancel | Ship | Complete | Asked
