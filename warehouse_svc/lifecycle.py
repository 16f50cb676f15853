"""The effects of stock movements and the statuses of reservations: tables, and pure functions over
them.

1. A balance changes only by a movement, as EFFECTS says; units of a reservation move only as
  UNIT_MOVES says.
2. A reservation's status follows from its units (`status_of`), and changes only along MOVES.
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """The status of a reservation."""

    ACTIVE = "active"  # units are set aside for a time
    CONFIRMED = "confirmed"  # units are committed
    RELEASED = "released"  # units were freed before they were committed
    # its expire_time passed before it was confirmed; a new reservation may replace it
    EXPIRED = "expired"
    CLOSED = "closed"  # each unit has shipped, returned to the shelf or been written off


MOVES: dict[Status, frozenset[Status]] = {
    Status.ACTIVE: frozenset({Status.CONFIRMED, Status.RELEASED, Status.EXPIRED}),
    Status.CONFIRMED: frozenset({Status.CLOSED}),
    Status.RELEASED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CLOSED: frozenset(),
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)
OPEN = frozenset(Status) - TERMINAL


class Reason(StrEnum):
    """Why a reservation changed, as its events say.

    The contract's ReservationStatusReason has the same names.
    """

    STOCK_RESERVED = "STOCK_RESERVED"
    RESERVATION_RENEWED = "RESERVATION_RENEWED"
    STOCK_CONFIRMED = "STOCK_CONFIRMED"
    CONFIRM_REFUSED = "CONFIRM_REFUSED"
    STOCK_RELEASED = "STOCK_RELEASED"
    TIME_EXPIRED = "TIME_EXPIRED"
    ATTEMPT_CLOSED = "ATTEMPT_CLOSED"
    UNITS_CANCELLED = "UNITS_CANCELLED"
    FULFILLMENT_CHANGED = "FULFILLMENT_CHANGED"
    SPOILED_UNITS_REPLACED = "SPOILED_UNITS_REPLACED"


class MovementKind(StrEnum):
    """The kind of a row of the ledger."""

    RECEIVE = "receive"  # goods arrive
    ADJUST = "adjust"  # a count corrects the ledger, up or down
    RESERVE = "reserve"  # units are set aside for an order, for a time
    CONFIRM = "confirm"  # reserved units are committed
    RELEASE = "release"  # reserved units are freed
    EXPIRE = "expire"  # reserved units are freed after their expire_time
    UNCOMMIT = "uncommit"  # committed units go back on the shelf
    SHIP = "ship"  # committed units leave with a carrier
    SHORT = "short"  # committed units are not found when picking
    SPOIL_COMMITTED = "spoil_committed"  # committed units are found damaged
    SPOIL_SHELF = "spoil_shelf"  # sellable units are found damaged
    RESTOCK = "restock"  # returned units pass inspection
    MARK_DAMAGED = "mark_damaged"  # returned units fail inspection
    SHIP_SHELF = "ship_shelf"  # units left in a parcel whose label was void


class Effect(NamedTuple):
    """The change of each balance by a movement of one unit.

    The changes but `reserved` sum to zero: reserved units are among the available ones.
    """

    available: int = 0
    reserved: int = 0
    committed: int = 0
    damaged: int = 0
    outside: int = 0


EFFECTS: dict[MovementKind, Effect] = {
    MovementKind.RECEIVE: Effect(available=+1, outside=-1),
    # the one movement whose quantity may be below zero
    MovementKind.ADJUST: Effect(available=+1, outside=-1),
    MovementKind.RESERVE: Effect(reserved=+1),
    MovementKind.CONFIRM: Effect(available=-1, reserved=-1, committed=+1),
    MovementKind.RELEASE: Effect(reserved=-1),
    MovementKind.EXPIRE: Effect(reserved=-1),
    MovementKind.UNCOMMIT: Effect(available=+1, committed=-1),
    MovementKind.SHIP: Effect(committed=-1, outside=+1),
    MovementKind.SHORT: Effect(committed=-1, outside=+1),
    MovementKind.SPOIL_COMMITTED: Effect(committed=-1, damaged=+1),
    MovementKind.SPOIL_SHELF: Effect(available=-1, damaged=+1),
    MovementKind.RESTOCK: Effect(available=+1, outside=-1),
    MovementKind.MARK_DAMAGED: Effect(damaged=+1, outside=-1),
    MovementKind.SHIP_SHELF: Effect(available=-1, outside=+1),
}


class Bucket(StrEnum):
    """A place for units of a reservation line; the units of all buckets sum to its quantity."""

    RESERVED = "reserved"
    RELEASED = "released"  # released, or expired
    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"
    SHIPPED = "shipped"
    WRITTEN_OFF = "written_off"


# By movement: the bucket that it takes units from, and the bucket that it puts them into.
UNIT_MOVES: dict[MovementKind, tuple[Bucket, Bucket]] = {
    MovementKind.CONFIRM: (Bucket.RESERVED, Bucket.COMMITTED),
    MovementKind.RELEASE: (Bucket.RESERVED, Bucket.RELEASED),
    MovementKind.EXPIRE: (Bucket.RESERVED, Bucket.RELEASED),
    MovementKind.UNCOMMIT: (Bucket.COMMITTED, Bucket.UNCOMMITTED),
    MovementKind.SHIP: (Bucket.COMMITTED, Bucket.SHIPPED),
    MovementKind.SHORT: (Bucket.COMMITTED, Bucket.WRITTEN_OFF),
    MovementKind.SPOIL_COMMITTED: (Bucket.COMMITTED, Bucket.WRITTEN_OFF),
}

# Where two movements put units into one bucket, one of them also has a counter. It counts a part of
# the bucket's units.
COUNTERS: dict[MovementKind, str] = {
    MovementKind.EXPIRE: "expired",
    MovementKind.SPOIL_COMMITTED: "spoiled",
}


def allowed(old: Status, new: Status) -> bool:
    """Returns whether a reservation may go from `old` to `new`, which may be the same status."""
    return old is new or new in MOVES[old]


def status_of(
    *, reserved: int, committed: int, released: int, expired: int, quantity: int
) -> Status:
    """Returns the status that follows from a reservation's units, summed over its lines.

    `expired` counts those of the `released` units that were freed after their expire_time.
    """
    if reserved:
        return Status.ACTIVE
    if committed:
        return Status.CONFIRMED
    if released < quantity:
        return Status.CLOSED
    return Status.EXPIRED if expired else Status.RELEASED
