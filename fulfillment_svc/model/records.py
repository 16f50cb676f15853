"""A fulfilment with its picklist and packages, the job that it is a part of, its history, and
what is told of it. Pure rules.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from fulfillment_svc.lifecycle import InspectionRule, Reason, Status, WithdrawReason


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one order line to be picked in this warehouse: 0 <= picked <= quantity. What left
    the picklist is counted by why.
    """

    line_number: int
    sku: str
    quantity: int
    picked: int = 0
    cut: int = 0  # cancelled, and back on the shelf
    short: int = 0  # not found
    spoiled: int = 0  # found damaged, whether or not others came in their place
    # found damaged in all: a target, and what is beyond `spoiled` the warehouse is still to book
    found: int = 0

    @property
    def open(self) -> int:
        """Units that are still to be scanned."""
        return self.quantity - self.picked

    @property
    def unbooked(self) -> int:
        """Units to be picked that are found damaged, and are still to be booked, or the answer
        to be written here.
        """
        return max(0, min(self.found - self.spoiled, self.quantity))

    @property
    def planned(self) -> int:
        """Units that were ever to be picked, those that came in the place of spoiled ones
        included.
        """
        return self.quantity + self.cut + self.short + self.spoiled

    def cut_to(self, target: int) -> "Line":
        """The line with `target` units at most; scanned ones beyond go back to the shelf as
        well.
        """
        left = min(self.quantity, target)
        found = min(self.found, self.spoiled + left)
        return replace(
            self,
            quantity=left,
            picked=min(self.picked, left),
            cut=self.cut + self.quantity - left,
            found=found,
        )

    def with_found(self, units: int) -> "Line":
        """The line with so many units of those to be picked found damaged, or more, where
        somebody has found more.
        """
        return replace(self, found=max(self.found, self.spoiled + units))

    def closed_short(self) -> "Line":
        """The line with the units that were found."""
        return replace(self, quantity=self.picked, short=self.short + self.open)

    def rebooked(self, stock: "Rebooked") -> "Line":
        """The line as the warehouse's books now have it. No more is to be picked than is
        committed there; all that was neither short nor spoiled and is not to be picked goes back
        to the shelf, or is there: so each unit is accounted for, whatever became of the line
        since the warehouse was asked. An answer that is older than what is known says nothing.
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
class Spoiling:
    """What the warehouse is to book of a line, each in all so far."""

    line_number: int
    spoiled: int
    short: int


@dataclass(frozen=True, slots=True)
class Rebooked:
    """What the warehouse holds for a line after spoiled units were booked and replaced as far as
    there were others.

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


@dataclass(frozen=True, slots=True)
class Package:
    """A parcel; `number` is 0 until the service has given it one, from 1. Each line stands in it
    once.
    """

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
    """What one warehouse is to do for one attempt of an order: together these three name it (a
    natural key).
    """

    order_id: UUID
    warehouse_id: str
    attempt: int

    @property
    def of(self) -> OrderAttempt:
        """The attempt that it is a part of."""
        return OrderAttempt(self.order_id, self.attempt)


@dataclass(frozen=True, slots=True)
class VoidLabel:
    """What a shipment carried whose label is void: units by line. `left`: the carrier has
    reported it all the same.
    """

    shipment_id: UUID
    units: Mapping[int, int]
    left: bool = False


# What each warehouse is to pick for an order's attempt.
Shares = Mapping[str, tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Fulfillment:
    """The work of one warehouse for one attempt of an order, as it stands.

    withdraw_reason   set while it is ready and waits for shipping: is the label void, or does the
                      carrier have the parcels? All its units stay committed until then
    released_version  its version when shipping last said that a label is void; shipments of
                      versions before are void
    void_labels       what was in the parcels of those that had a label
    """

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
    withdraw_reason: WithdrawReason | None
    released_version: int
    lines: tuple[Line, ...]  # by line number
    packages: tuple[Package, ...] = ()  # by number
    void_labels: tuple[VoidLabel, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Allocation:
    """Units of an order line that stay, and where they come from."""

    warehouse_id: str
    line_number: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The units of an order that stay, as it told. `version` is the order's: a greater one is
    newer.
    """

    attempt: int
    version: int
    units: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """All that is done for one order, and what it has told that outlasts an event: the record of
    every write.

    Under its lock nothing of the order is planned, cut or ended beside one another, in whatever
    order the news of it comes.

    closed_attempt  this attempt and those before it are dead; 0: none is
    kept            None: the order needs what was planned for it
    """

    order_id: UUID
    closed_attempt: int = 0
    kept: Kept | None = None
    fulfillments: tuple[Fulfillment, ...] = ()

    def of(self, attempt: int) -> tuple[Fulfillment, ...]:
        """The fulfilments of an attempt."""
        return tuple(each for each in self.fulfillments if each.work.attempt == attempt)

    def at(self, warehouse_id: str, attempt: int) -> Fulfillment | None:
        """What a warehouse does for an attempt."""
        return next(
            (each for each in self.of(attempt) if each.work.warehouse_id == warehouse_id), None
        )

    def find(self, id: UUID) -> Fulfillment | None:
        """The fulfilment of this id."""
        return next((each for each in self.fulfillments if each.id == id), None)

    def keeping(self, kept: Kept) -> "Job":
        """The job with this news of what stays, unless it has heard newer."""
        return self if self.kept and self.kept.version >= kept.version else replace(self, kept=kept)

    def having(self, fulfillment: Fulfillment) -> "Job":
        """The job with this fulfilment, in the place of what stood there."""
        others = tuple(each for each in self.fulfillments if each.id != fulfillment.id)
        return replace(
            self, fulfillments=tuple(sorted((*others, fulfillment), key=lambda each: each.id))
        )


def staying(kept: Kept, fulfillments: Iterable[Fulfillment]) -> Counter[tuple[str, int]]:
    """How many units stay of each line in each warehouse: what the order says.

    Where it counts on more units in a warehouse than were planned there, their stock was committed
    elsewhere, and the order has not heard of that yet: those units stay where the line's units lie
    in fact.
    """
    planned = {
        (each.work.warehouse_id, line.line_number): line.planned
        for each in fulfillments
        for line in each.lines
    }
    stay, moved = Counter[tuple[str, int]](), Counter[int]()
    for unit in kept.units:
        stay[unit.warehouse_id, unit.line_number] += unit.quantity
    for place, quantity in stay.items():
        moved[place[1]] += max(0, quantity - planned.get(place, 0))
    for place in sorted(planned):
        found = min(moved[place[1]], max(0, planned[place] - stay[place]))
        stay[place] += found
        moved[place[1]] -= found
    return stay


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A fact for the world: the fulfilment as it stood right after the change.

    `actor`, `cause` and `claimed_actor`: see Transition. `unworked`: its attempt is dead, and
    nobody here ever knew where the stock was committed: nothing of it is worked on anywhere.
    """

    fulfillment: Fulfillment
    old: Status | None
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    unworked: bool = False


@dataclass(frozen=True, slots=True)
class LinesChanged:
    """A fact for the world: units left the picklist, and the work goes on. The fulfilment as it
    stood right after; `unworked`: see StatusChanged. `left`: what left the warehouse by a label
    that was void.
    """

    fulfillment: Fulfillment
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    unworked: bool = False
    left: VoidLabel | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which fulfilments a list shows; None and empty: any."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: frozenset[Status] = frozenset()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
