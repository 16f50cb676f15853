"""The commands of the fulfilment service, and the events of orders that become commands.

A command has domain data only: chassis.values.envelope carries the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from chassis.values.money import Money
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.records import Kept, Line, OrderAttempt, Package, Rebooked, Shares, Work


class News(StrEnum):
    """What an event of an order means for the warehouses."""

    CONFIRMED = "confirmed"  # there is work to be done
    CUT = "cut"  # there is less of it
    ENDED = "ended"  # there is none any more
    OTHER = "other"  # nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNews:
    """An event of an order; `shares` are its units that stay, by warehouse."""

    news: News
    order_id: UUID
    order_number: str
    attempt: int
    version: int
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
    """The stock is the order's for good, and lies where `shares` says: not always where it was
    reserved at first.
    """

    shares: Shares


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """The warehouse says no; where that is `final`, it will not say yes later."""

    reason: str
    final: bool


CommitAnswer = Committed | NotCommitted


@dataclass(frozen=True, slots=True)
class Picklist:
    """What a warehouse is to do; `id` is proposed for its fulfilment."""

    id: UUID
    warehouse_id: str
    lines: tuple[Line, ...]
    inspection_rule: InspectionRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfOrder:
    """A command about all fulfilments of one attempt of an order; its target is the order.

    `version` is the order's version in its event; 0 where the command comes from no event.
    """

    attempt: int
    order_number: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(OfOrder):
    """The order is confirmed: a fulfilment for each picklist.

    kept  what the order says that it needs, where its stock was still owed: more may be committed
    for it than that, if it has lost units
          and the warehouse has not heard so. None: the picklists are what it says.
    """

    picklists: tuple[Picklist, ...]
    stock_committed: bool
    kept: Kept | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(OfOrder):
    """The stock that was owed is committed, and lies where the picklists say: other warehouses
    that waited for it have nothing to do.
    """

    picklists: tuple[Picklist, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(OfOrder):
    """Units of the order were cancelled: these stay."""

    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class End(OfOrder):
    """The order is dead. The picklists are its warehouses': where nothing was planned yet, a
    cancelled fulfilment tells of the units.
    """

    picklists: tuple[Picklist, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfShipment:
    """What shipping says of a shipment; the command's target is the fulfilment.

    `fulfillment_version` is the version of the fulfilment whose packages are the parcels.
    """

    shipment_id: UUID
    fulfillment_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ship(OfShipment):
    """A shipment carries it. `left`: the carrier has the parcels; else the label is bought."""

    left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(OfShipment):
    """Its shipment is delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(OfShipment):
    """It was withdrawn, and its shipment will not leave: there is no label, or (`label_void`) the
    carrier has voided it.

    `left`: the carrier has reported the parcels all the same, after it had confirmed the void.
    """

    label_void: bool
    left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks of one fulfilment, the command's target.

    `expected_version` is the version that the person decided on; None: any version will do.
    """

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
    """Close the picklist. Of the lines with these numbers no more units are found."""

    short_line_numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPacking(Request):
    """A packer takes the goods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack(Request):
    """Close the packages."""

    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSpoiled(Request):
    """Units that an inspector found damaged, by line number: noted before the warehouse is told."""

    spoiled: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordInspection(Request):
    """What the inspector found.

    spoiled   units found damaged, by line number
    rebooked  what the warehouse answered about all lines with such units; none where it was not
              asked
    """

    passed: bool
    spoiled: Mapping[int, int] = field(default_factory=dict)
    rebooked: tuple[Rebooked, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp(Request):
    """The staff will not do it."""
