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
    """A count found `delta` more units than the ledger says; fewer where it is negative."""

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
    """Commit what the attempt has reserved. `by_event`: an event asks for it and no caller reads
    the answer, so a refusal for good is published.
    """

    attempt: int
    by_event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservations:
    """Release what the attempt still has reserved. `released` has, by line number, the units
    released so far, including these; empty: release all.
    """

    attempt: int
    released: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReservations:
    """Expire the reservations whose expire_time has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAttempt:
    """Close the order's attempt: it can no longer be confirmed.

    while_pending  the order was still pending, so no fulfilment will report the attempt's units
    by_order       the order service closed it: then the attempt is stored as closed even where the
                   order has no reservations
    """

    attempt: int
    while_pending: bool
    by_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyAllocations:
    """Free the units that an open order no longer allocates. The order publishes its allocations,
    here by reservation and line number, when units are cancelled, and when it is confirmed with
    its stock committed.

    `while_pending`: no fulfilment will report the units that are no longer allocated.
    """

    attempt: int
    allocated: Mapping[tuple[UUID, int], int]
    while_pending: bool


@dataclass(frozen=True, slots=True)
class FulfillmentLine:
    """Units of an order line in one warehouse, as fulfilment reports them: those that remain on
    its picklist, those not found so far, and those found damaged so far.
    """

    number: int
    quantity: int
    short: int = 0
    spoiled: int = 0


@dataclass(frozen=True, slots=True)
class LeftAfterVoid:
    """Units that left with a shipment, `source`, after its label was voided: by line number. They
    were back on the shelf, or are still committed for the parcel that replaces it.
    """

    source: UUID
    units: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyFulfillment:
    """Apply one warehouse's current picklist: all other units that are committed there go back on
    the shelf. `shipped`: the picklist's units have left. `left_after_void`: other units have left
    as well.
    """

    attempt: int
    warehouse_id: str
    lines: tuple[FulfillmentLine, ...]
    shipped: bool = False
    left_after_void: LeftAfterVoid | None = None


@dataclass(frozen=True, slots=True)
class SpoiledLine:
    """Units of an order line that were found damaged so far, and units that were not found so far.
    The event about the latter may not have arrived yet.
    """

    number: int
    spoiled: int
    short: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceSpoiled:
    """Mark committed units as damaged, and commit others in their place."""

    attempt: int
    warehouse_id: str
    lines: tuple[SpoiledLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostReturn:
    """Post the inspected units of a return, `source`: by line number, those that have passed
    inspection so far and those that have failed.
    """

    source: UUID
    warehouse_id: str
    restocked: Mapping[int, int] = field(default_factory=dict)
    damaged: Mapping[int, int] = field(default_factory=dict)
