"""What each stock movement does, and which status of a reservation may follow which: tables, and
pure functions over them.

1. A balance changes only by a movement, as EFFECTS says; units of a reservation move only as
  UNIT_MOVES says.
2. A reservation's status is what its units make of it (`status_of`), and changes only along MOVES.
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where a reservation stands."""

    ACTIVE = "active"  # units are set aside for a time
    CONFIRMED = "confirmed"  # units are committed
    RELEASED = "released"  # units were given up before they were committed
    # its time was over before it was confirmed; a new reservation may take its place
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


class Reason(StrEnum):
    """Why a reservation changed: in its events.

    The contract's ReservationStatusReason has the same names.
    """

    STOCK_RESERVED = "STOCK_RESERVED"
    RESERVATION_RENEWED = "RESERVATION_RENEWED"
    STOCK_CONFIRMED = "STOCK_CONFIRMED"
    CONFIRM_REFUSED = "CONFIRM_REFUSED"
    STOCK_RELEASED = "STOCK_RELEASED"
    TIME_EXPIRED = "TIME_EXPIRED"
    ATTEMPT_ENDED = "ATTEMPT_ENDED"
    UNITS_CANCELLED = "UNITS_CANCELLED"
    WORK_REPORTED = "WORK_REPORTED"
    SPOILED_UNITS_REPLACED = "SPOILED_UNITS_REPLACED"


class MovementKind(StrEnum):
    """The kind of a row of the ledger."""

    RECEIVE = "receive"  # goods arrive
    ADJUST = "adjust"  # a count corrects the ledger, up or down
    RESERVE = "reserve"  # units are set aside for an order, for a time
    CONFIRM = "confirm"  # they are sold
    RELEASE = "release"  # they are given up
    EXPIRE = "expire"  # their time is over
    UNCOMMIT = "uncommit"  # sold, cancelled before shipping, back on the shelf
    SHIP = "ship"  # they leave with a carrier
    SHORT = "short"  # not found when picking
    SPOIL_COMMITTED = "spoil_committed"  # found damaged while packing
    SPOIL_SHELF = "spoil_shelf"  # found damaged on the shelf
    RESTOCK = "restock"  # a return that passed inspection
    MARK_DAMAGED = "mark_damaged"  # a return that failed inspection
    SHIP_SHELF = "ship_shelf"  # a parcel that was reported after its label was void


class Effect(NamedTuple):
    """What a movement of one unit does to each balance. `reserved` marks units of `available`;
    the others sum to zero.
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
    """Where the units of a reservation line are; over all buckets they are the line's quantity."""

    RESERVED = "reserved"
    RELEASED = "released"  # given up, or expired
    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"
    SHIPPED = "shipped"
    WRITTEN_OFF = "written_off"


# Which units of a reservation line a movement takes, and where it puts them.
UNIT_MOVES: dict[MovementKind, tuple[Bucket, Bucket]] = {
    MovementKind.CONFIRM: (Bucket.RESERVED, Bucket.COMMITTED),
    MovementKind.RELEASE: (Bucket.RESERVED, Bucket.RELEASED),
    MovementKind.EXPIRE: (Bucket.RESERVED, Bucket.RELEASED),
    MovementKind.UNCOMMIT: (Bucket.COMMITTED, Bucket.UNCOMMITTED),
    MovementKind.SHIP: (Bucket.COMMITTED, Bucket.SHIPPED),
    MovementKind.SHORT: (Bucket.COMMITTED, Bucket.WRITTEN_OFF),
    MovementKind.SPOIL_COMMITTED: (Bucket.COMMITTED, Bucket.WRITTEN_OFF),
}

# Where two movements put units into one bucket, one of them has a counter of its own, which is a
# part of the bucket's.
COUNTERS: dict[MovementKind, str] = {
    MovementKind.EXPIRE: "expired",
    MovementKind.SPOIL_COMMITTED: "spoiled",
}


def allowed(here: Status, there: Status) -> bool:
    """Whether a reservation may go from here to there; staying is always allowed."""
    return here is there or there in MOVES[here]


def status_of(
    *, reserved: int, committed: int, released: int, expired: int, quantity: int
) -> Status:
    """What a reservation's units make of it, summed over its lines. `expired` units are those of
    the `released` whose time was over.
    """
    if reserved:
        return Status.ACTIVE
    if committed:
        return Status.CONFIRMED
    if released < quantity:
        return Status.CLOSED
    return Status.EXPIRED if expired else Status.RELEASED
