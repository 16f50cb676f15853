"""The commands of the warehouse service.

A command has domain data only: chassis.values.envelope carries the rest. The target of its envelope
is the order; of a receipt or a count it is the request's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from warehouse_svc.model.held import WantedLine


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStock:
    """Goods have arrived: units by SKU."""

    warehouse_id: str
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustStock:
    """A count has found `delta` more units than the books say."""

    warehouse_id: str
    sku: str
    delta: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock:
    """Set aside all lines, or none, for `ttl`."""

    attempt: int
    lines: tuple[WantedLine, ...]
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewReservations:
    """The request that once reserved has come again: what is still reserved is so for `ttl` from
    now, what has expired is made anew.
    """

    attempt: int
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmReservations:
    """Commit what the attempt has reserved. `by_event`: nobody waits for the answer, so that a
    refusal for good is told to the world.
    """

    attempt: int
    by_event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservations:
    """Give up what the attempt still has reserved: by line number the units released so far,
    these included; empty: all of it.
    """

    attempt: int
    released: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReservations:
    """Take back what is reserved past its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttempt:
    """The order's attempt is dead.

    while_pending  no fulfilment will ever speak of its units
    by_order       the order itself says so: then this is remembered of an order of which nothing is
                   held, too
    """

    attempt: int
    while_pending: bool
    by_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepUnits:
    """What a living order keeps, by reservation and line number: it says so when units are
    cancelled, and when it is confirmed with its stock committed. `while_pending`: of the units
    that went, no fulfilment will ever speak.
    """

    attempt: int
    kept: Mapping[tuple[UUID, int], int]
    while_pending: bool


@dataclass(frozen=True, slots=True)
class WorkLine:
    """Units of an order line in one warehouse, as fulfilment tells: those that stay on its
    picklist, those not found so far, and those found damaged so far.
    """

    number: int
    quantity: int
    short: int = 0
    spoiled: int = 0


@dataclass(frozen=True, slots=True)
class LeftAfterVoid:
    """What left by a shipment, its `source`, whose label was void: units by line number. They
    were back on the shelf, or are still committed for the parcel that replaces it.
    """

    source: UUID
    units: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowWork:
    """One warehouse's picklist as it stands: whatever else is committed there is back on the
    shelf. `shipped`: its units have left. `left`: others have left as well.
    """

    attempt: int
    warehouse_id: str
    lines: tuple[WorkLine, ...]
    shipped: bool = False
    left: LeftAfterVoid | None = None


@dataclass(frozen=True, slots=True)
class SpoiledLine:
    """Units of an order line that were found damaged so far; and that were not found so far, of
    which the event may be on its way.
    """

    number: int
    spoiled: int
    short: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceSpoiled:
    """Committed units are damaged: others are to be committed in their place."""

    attempt: int
    warehouse_id: str
    lines: tuple[SpoiledLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookReturn:
    """Units of a return, its `source`, were inspected: by line number those that have passed so
    far, and those that have failed.
    """

    source: UUID
    warehouse_id: str
    restocked: Mapping[int, int] = field(default_factory=dict)
    damaged: Mapping[int, int] = field(default_factory=dict)
