"""The commands of the warehouse service.

A command has domain data only: chassis.values.envelope carries the rest. The target of its envelope
is the order; of a receipt or a count it is the request's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from warehouse_svc.model.records import WantedLine


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStock:
    """Goods have arrived: units by SKU."""

    warehouse_id: str
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustStock:
    """A count found `delta` more units than the ledger has; fewer where it is negative."""

    warehouse_id: str
    sku: str
    delta: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock:
    """Reserve all lines, or none, for `ttl`."""

    attempt: int
    lines: tuple[WantedLine, ...]
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewReservations:
    """A ReserveStock request is repeated: active reservations expire `ttl` from now, and expired
    ones are replaced.
    """

    attempt: int
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmReservations:
    """Commit the units that the attempt has reserved.

    `by_event`: an event asks for it and no caller reads the answer. So a final refusal is
    published.
    """

    attempt: int
    by_event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservations:
    """Release units that the attempt still has reserved.

    `released` has, by line number, the units released so far, including these; empty: release all.
    """

    attempt: int
    released: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReservations:
    """Expire the reservations whose expire_time has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAttempt:
    """Close the order's attempt: it can no longer be confirmed.

    while_pending  the order was still pending: no fulfilment will report the attempt's units
    by_order       the order service closed it: the attempt is stored as closed even where the
                   order has no reservations
    """

    attempt: int
    while_pending: bool
    by_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyAllocations:
    """Free the units that an open order no longer allocates.

    `allocated` has the order's allocations by reservation and line number. The order publishes them
    when units are cancelled, and when it is confirmed with its stock committed.

    `while_pending`: no fulfilment will report the units that are no longer allocated.
    """

    attempt: int
    allocated: Mapping[tuple[UUID, int], int]
    while_pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentLine:
    """Units of an order line in one warehouse, as the fulfilment service reports them.

    `quantity` remain on the picklist; `short` were not found so far, `spoiled` found damaged.
    """

    number: int
    quantity: int
    short: int = 0
    spoiled: int = 0


@dataclass(frozen=True, slots=True)
class ShippedAfterVoid:
    """Units, by line number, that left with a shipment, `source`, after its label was voided.

    They were back on the shelf, or are still committed for the parcel that replaces it.
    """

    source: UUID
    units: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyFulfillment:
    """Apply one warehouse's current picklist.

    All other units that are committed there go back on the shelf. `shipped`: the picklist's units
    have left. `shipped_after_void`: other units have left as well.
    """

    attempt: int
    warehouse_id: str
    lines: tuple[FulfillmentLine, ...]
    shipped: bool = False
    shipped_after_void: ShippedAfterVoid | None = None


@dataclass(frozen=True, slots=True)
class SpoiledLine:
    """Units of an order line that were found damaged so far, and units that were not found so far.

    The event about the units that were not found may not have arrived yet.
    """

    number: int
    spoiled: int
    short: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceSpoiled:
    """Mark committed units as damaged, and commit other units in their place."""

    attempt: int
    warehouse_id: str
    lines: tuple[SpoiledLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostReturn:
    """Post the inspected units of a return, `source`, by line number.

    `restocked` units have passed inspection so far; `damaged` units have failed.
    """

    source: UUID
    warehouse_id: str
    restocked: Mapping[int, int] = field(default_factory=dict)
    damaged: Mapping[int, int] = field(default_factory=dict)
