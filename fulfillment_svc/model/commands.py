"""The commands of the fulfilment service, and the events of orders that become commands.

A command has domain data only: chassis.values.envelope carries the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from chassis.values.money import Money
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.records import (
    FulfillmentKey,
    Line,
    LinesByWarehouse,
    OrderAttempt,
    Package,
    RemainingUnits,
    ReplacedLine,
)


class OrderEventKind(StrEnum):
    """What an event of an order means for its fulfilments."""

    CONFIRMED = "confirmed"  # they are planned
    CUT = "cut"  # they lose units
    CANCELLED = "cancelled"  # they are cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """An event of an order; `lines_by_warehouse` has the order's remaining units."""

    kind: OrderEventKind
    order_id: UUID
    order_number: str
    attempt: int
    version: int
    total: Money
    stock_committed: bool
    lines_by_warehouse: LinesByWarehouse

    @property
    def order_attempt(self) -> OrderAttempt:
        """The attempt that the event concerns."""
        return OrderAttempt(self.order_id, self.attempt)

    @property
    def fulfillment_keys(self) -> set[FulfillmentKey]:
        """The keys of the attempt's fulfilments."""
        return {
            FulfillmentKey(self.order_id, warehouse_id, self.attempt)
            for warehouse_id in self.lines_by_warehouse
        }


@dataclass(frozen=True, slots=True)
class Committed:
    """The warehouse committed the stock, in the warehouses of `lines_by_warehouse`.

    They are not always those of the first reservations.
    """

    lines_by_warehouse: LinesByWarehouse


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """The warehouse did not commit the stock; `final`: it never will."""

    final: bool


CommitAnswer = Committed | NotCommitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Picklist:
    """The lines that a warehouse is to pick; `id` is proposed for its fulfilment."""

    id: UUID
    warehouse_id: str
    lines: tuple[Line, ...]
    inspection_rule: InspectionRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCommand:
    """A command about all fulfilments of one attempt of an order; its target is the order.

    `version` is the order's version in its event; 0 where the command comes from no event.
    """

    attempt: int
    order_number: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(OrderCommand):
    """The order is confirmed: each picklist gets a fulfilment.

    remaining  the units that the order needs, where the commit of its stock was pending. The
               warehouse may have committed more, if it has not consumed a cancellation of units.
               None: the picklists have them
    """

    picklists: tuple[Picklist, ...]
    stock_committed: bool
    remaining: RemainingUnits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCommit(OrderCommand):
    """The pending commit is done, in the warehouses of the picklists: fulfilments that waited in
    other warehouses are cancelled.
    """

    picklists: tuple[Picklist, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(OrderCommand):
    """Units of the order were cancelled: these remain."""

    remaining: RemainingUnits


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAttempt(OrderCommand):
    """The order is cancelled. A picklist without a fulfilment gets a cancelled one, whose event
    names the units that the warehouse frees.
    """

    picklists: tuple[Picklist, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentCommand:
    """A command from an event of a shipment; its target is the fulfilment.

    `fulfillment_version` is the version of the fulfilment whose packages are the parcels.
    """

    shipment_id: UUID
    fulfillment_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ship(ShipmentCommand):
    """The fulfilment has a shipment. `shipped`: the carrier has the parcels; else only the label is
    bought.
    """

    shipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(ShipmentCommand):
    """The fulfilment's shipment is delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmWithdrawal(ShipmentCommand):
    """The fulfilment was withdrawn, and its shipment will not leave: there is no label, or
    (`label_void`) the carrier has voided it.

    `shipped`: the carrier reported the parcels all the same, after it had confirmed the void.
    """

    label_void: bool
    shipped: bool = False


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
class RecordSpoiled(Request):
    """Units that an inspector found damaged, by line number.

    They are stored before the warehouse is asked.
    """

    spoiled: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordInspection(Request):
    """What the inspector found.

    spoiled         units found damaged, by line number
    replaced_lines  the warehouse's answer about all lines with such units; none where it was not
                    asked
    """

    passed: bool
    spoiled: Mapping[int, int] = field(default_factory=dict)
    replaced_lines: tuple[ReplacedLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelFulfillment(Request):
    """The staff cannot do the work."""
