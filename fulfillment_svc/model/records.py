"""A fulfilment with its picklist and packages, all fulfilments of an order, and their history.

Pure rules.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from fulfillment_svc.lifecycle import InspectionRule, Reason, Status, WithdrawReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Units of one order line to be picked in this warehouse: 0 <= picked <= quantity.

    Units that left the picklist are counted by their reason.
    """

    line_number: int
    sku: str
    quantity: int
    picked: int = 0
    cut: int = 0  # cancelled, and back on the shelf
    short: int = 0  # not found
    spoiled: int = 0  # found damaged and posted by the warehouse, replaced or not
    # found damaged in all; the warehouse has not posted those beyond `spoiled`
    found_spoiled: int = 0

    @property
    def open(self) -> int:
        """Units that are still to be scanned."""
        return self.quantity - self.picked

    @property
    def unposted_spoiled(self) -> int:
        """Units to be picked that an inspector found damaged, and whose posting by the warehouse is
        not stored here.
        """
        return max(0, min(self.found_spoiled - self.spoiled, self.quantity))

    @property
    def planned(self) -> int:
        """Units that were ever to be picked, with those that replaced spoiled ones."""
        return self.quantity + self.cut + self.short + self.spoiled

    def cut_to(self, target: int) -> "Line":
        """Returns the line with `target` units at most; scanned ones beyond go back to the shelf as
        well.
        """
        remaining = min(self.quantity, target)
        found = min(self.found_spoiled, self.spoiled + remaining)
        return replace(
            self,
            quantity=remaining,
            picked=min(self.picked, remaining),
            cut=self.cut + self.quantity - remaining,
            found_spoiled=found,
        )

    def with_found_spoiled(self, units: int) -> "Line":
        """Returns the line with `units` of its units to be picked found damaged; more, where
        another inspector found more.
        """
        return replace(self, found_spoiled=max(self.found_spoiled, self.spoiled + units))

    def closed_short(self) -> "Line":
        """Returns the line with the units that were found; the others are short."""
        return replace(self, quantity=self.picked, short=self.short + self.open)

    def with_replacements(self, stock: "ReplacedLine") -> "Line":
        """Returns the line as the warehouse's answer has it.

        No more units are to be picked than the warehouse has committed. Units that are neither
        short, nor spoiled, nor to be picked are cut: so each unit is accounted for, also where the
        line changed after the request. An answer that is older than the line changes nothing.
        """
        if stock.spoiled < self.spoiled:
            return self
        quantity = min(self.quantity, stock.committed)
        cut = max(0, stock.units - stock.spoiled - self.short - quantity)
        return replace(
            self,
            quantity=quantity,
            picked=min(self.picked, quantity),
            cut=cut,
            spoiled=stock.spoiled,
        )


@dataclass(frozen=True, slots=True)
class SpoiledLine:
    """The spoiled and short units of a line that the warehouse is to post, each in all so far."""

    line_number: int
    spoiled: int
    short: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedLine:
    """The units of a line in the warehouse after it posted the spoiled ones and replaced them as
    far as it could.

    units      ever committed for it here, replacements included
    committed  still
    spoiled    so far
    """

    line_number: int
    units: int
    committed: int
    spoiled: int


@dataclass(frozen=True, slots=True)
class PackedItem:
    """Units of one order line in a parcel."""

    line_number: int
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A parcel. Each line stands in it once."""

    weight_grams: int
    length_mm: int
    width_mm: int
    height_mm: int
    items: tuple[PackedItem, ...]


@dataclass(frozen=True, slots=True)
class OrderAttempt:
    """An attempt of an order: the warehouse commits the stock of all its reservations together."""

    order_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class FulfillmentKey:
    """The natural key of a fulfilment: one warehouse works once for one attempt of an order."""

    order_id: UUID
    warehouse_id: str
    attempt: int

    @property
    def order_attempt(self) -> OrderAttempt:
        """The attempt that it is a part of."""
        return OrderAttempt(self.order_id, self.attempt)


@dataclass(frozen=True, slots=True)
class VoidLabel:
    """The units, by line, in the parcels of a shipment whose label is void. `shipped`: the carrier
    reported the parcels all the same.
    """

    shipment_id: UUID
    units: Mapping[int, int]
    shipped: bool = False


# The lines that each warehouse is to pick for an order's attempt.
LinesByWarehouse = Mapping[str, tuple[Line, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfillment:
    """The work of one warehouse for one attempt of an order.

    withdraw_reason    set while the ready fulfilment waits for shipping's answer: the label is
                       void, or the carrier has the parcels. Until then all units stay committed
    withdrawn_version  the version when shipping last confirmed a withdrawal; shipments of earlier
                       versions were withdrawn. 0: none was
    void_labels        the withdrawn shipments that had a label, with the units in their parcels
    """

    id: UUID
    key: FulfillmentKey
    order_number: str
    status: Status
    stock_committed: bool
    inspection_rule: InspectionRule | None  # None: no inspection is required
    shipment_id: UUID | None
    version: int
    create_time: datetime
    update_time: datetime
    withdraw_reason: WithdrawReason | None
    withdrawn_version: int
    lines: tuple[Line, ...]  # by line number
    packages: tuple[Package, ...] = ()  # a package's number is its place, from 1
    void_labels: tuple[VoidLabel, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Allocation:
    """Remaining units of an order line, and the warehouse that serves them."""

    warehouse_id: str
    line_number: int
    quantity: int


@dataclass(frozen=True, slots=True)
class RemainingUnits:
    """The units that remain in an order after its cancellations, as its event has them.

    `version` is the order's: a greater one is newer.
    """

    attempt: int
    version: int
    units: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFulfillments:
    """All fulfilments of one order, and what is stored of its events: the record of every write.

    Its lock keeps two writes from planning, cutting or cancelling fulfilments of the order at once.

    closed_attempt  this attempt and those before it are closed; 0: none is
    remaining       None: the order needs every planned unit
    """

    order_id: UUID
    closed_attempt: int = 0
    remaining: RemainingUnits | None = None
    fulfillments: tuple[Fulfillment, ...] = ()

    def of_attempt(self, attempt: int) -> tuple[Fulfillment, ...]:
        """Returns the fulfilments of an attempt."""
        return tuple(each for each in self.fulfillments if each.key.attempt == attempt)

    def in_warehouse(self, warehouse_id: str, attempt: int) -> Fulfillment | None:
        """Returns the fulfilment of a warehouse for an attempt; None where there is none."""
        return next(
            (each for each in self.of_attempt(attempt) if each.key.warehouse_id == warehouse_id),
            None,
        )

    def find(self, id: UUID) -> Fulfillment | None:
        """Returns the fulfilment of this id; None where there is none."""
        return next((each for each in self.fulfillments if each.id == id), None)

    def with_remaining(self, remaining: RemainingUnits) -> "OrderFulfillments":
        """Returns the record with these remaining units, unless it has newer ones."""
        return (
            self
            if self.remaining and self.remaining.version >= remaining.version
            else replace(self, remaining=remaining)
        )

    def with_fulfillment(self, fulfillment: Fulfillment) -> "OrderFulfillments":
        """Returns the record with this fulfilment, in the place of the one with its id."""
        others = tuple(each for each in self.fulfillments if each.id != fulfillment.id)
        return replace(
            self, fulfillments=tuple(sorted((*others, fulfillment), key=lambda each: each.id))
        )


def remaining_by_line(
    remaining: RemainingUnits, fulfillments: Iterable[Fulfillment]
) -> Counter[tuple[str, int]]:
    """Returns the remaining units of each line in each warehouse, as the order has them.

    Where the order counts on more units in a warehouse than were planned there, their stock was
    committed in another warehouse, and the order has not consumed that event yet. Those units
    remain in the warehouses where the line's units are planned.
    """
    planned = {
        (each.key.warehouse_id, line.line_number): line.planned
        for each in fulfillments
        for line in each.lines
    }
    counts, moved = Counter[tuple[str, int]](), Counter[int]()
    for unit in remaining.units:
        counts[unit.warehouse_id, unit.line_number] += unit.quantity
    for place, quantity in counts.items():
        moved[place[1]] += max(0, quantity - planned.get(place, 0))
    for place in sorted(planned):
        found = min(moved[place[1]], max(0, planned[place] - counts[place]))
        counts[place] += found
        moved[place[1]] -= found
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A row of history: one for each change of status, withdrawal, scan and spoiled finding."""

    fulfillment_id: UUID
    version: int
    old: Status | None
    new: Status
    reason: Reason
    actor: str
    cause: str
    time: datetime
    claimed_actor: str | None = None
    note: str | None = None
