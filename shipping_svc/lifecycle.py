"""What may become of a shipment: tables, and pure functions over them. Nothing else decides which
status may follow which.

1. A status changes only along MOVES. Carriers skip scans, so a parcel may be delivered that nobody
  has seen on its way: the jumps are moves like any other, and no step is made up in between.
2. Reports arrive in any order. A shipment stands where the furthest of them says, so their order
  changes nothing; only of several ends (lost, and found and delivered after all) the one that was
  heard first stays.
3. A recall is a wish and no status: the carrier says whether the label is void, or reports where
  the parcels came to rest. Those that it delivers after all are delivered.
"""

from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a shipment stands."""

    PENDING = "pending"  # asked for; the label is being bought
    CREATED = "created"  # the label is bought; the parcels wait for the carrier
    IN_TRANSIT = "in_transit"  # on their way
    OUT_FOR_DELIVERY = "out_for_delivery"  # on the last vehicle
    DELIVERY_FAILED = "delivery_failed"  # nobody was there; the carrier tries again
    DELIVERED = "delivered"  # received
    LOST = "lost"  # the carrier cannot find them
    RETURNED_TO_SENDER = "returned_to_sender"  # the carrier brought them back
    # no label will be bought: the carrier refused, the order died first, or it was recalled before
    FAILED = "failed"
    VOIDED = "voided"  # recalled before the carrier had them: they have never left


class Reason(StrEnum):
    """Why a shipment changed; ShipmentStatusReason of the contract says when each is given."""

    FULFILLMENT_READY = "FULFILLMENT_READY"
    REPACKED = "REPACKED"
    LABEL_BOUGHT = "LABEL_BOUGHT"
    CARRIER_REPORTED = "CARRIER_REPORTED"
    CARRIER_REFUSED = "CARRIER_REFUSED"
    LABEL_NOT_PRINTABLE = "LABEL_NOT_PRINTABLE"
    TRACKING_NUMBER_IN_USE = "TRACKING_NUMBER_IN_USE"
    ORDER_CLOSED = "ORDER_CLOSED"
    FULFILLMENT_CANCELLED = "FULFILLMENT_CANCELLED"
    RECALLED = "RECALLED"
    FULFILLMENT_WITHDRAWN = "FULFILLMENT_WITHDRAWN"
    WITHDRAWAL_TOO_LATE = "WITHDRAWAL_TOO_LATE"
    REPORTED_AFTER_VOID = "REPORTED_AFTER_VOID"


_ENDS = frozenset({Status.DELIVERED, Status.LOST, Status.RETURNED_TO_SENDER})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CREATED, Status.FAILED}),
    Status.CREATED: frozenset(
        {Status.IN_TRANSIT, Status.OUT_FOR_DELIVERY, Status.DELIVERY_FAILED, Status.VOIDED}
    )
    | _ENDS,
    Status.IN_TRANSIT: frozenset({Status.OUT_FOR_DELIVERY, Status.DELIVERY_FAILED}) | _ENDS,
    Status.OUT_FOR_DELIVERY: frozenset({Status.DELIVERY_FAILED}) | _ENDS,
    Status.DELIVERY_FAILED: frozenset({Status.OUT_FOR_DELIVERY}) | _ENDS,
    Status.DELIVERED: frozenset(),
    Status.LOST: frozenset(),
    Status.RETURNED_TO_SENDER: frozenset(),
    Status.FAILED: frozenset(),
    Status.VOIDED: frozenset(),
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)

# The carrier has the parcels, or was to have them: there is a label and a tracking number from here
# on.
LABELLED = frozenset(MOVES) - {Status.PENDING, Status.FAILED}

# The carrier may report of it. Among these its tracking number is no other's.
LIVE = LABELLED - TERMINAL

# How far a parcel is on its way; what a carrier can report is all of it but the start.
STAGE: dict[Status, int] = {
    Status.CREATED: 0,
    Status.IN_TRANSIT: 1,
    Status.OUT_FOR_DELIVERY: 2,
    Status.DELIVERY_FAILED: 2,
    Status.DELIVERED: 3,
    Status.LOST: 3,
    Status.RETURNED_TO_SENDER: 3,
}
REPORTABLE = frozenset(STAGE) - {Status.CREATED}

_PLACE = {status: place for place, status in enumerate(STAGE)}


def further(here: Status, here_time: datetime | None, there: Status, there_time: datetime) -> bool:
    """Whether a report of `there` tells of a further place than the shipment's; the times are the
    carrier's, of the two reports.

    A later stage is further; within a stage (a second try at the door) the later report is, and
    delivery_failed where both are of one moment. Everything is further than a shipment of which
    nothing was reported (`here_time` is None); nothing is than an end, or than one without a label.
    """
    if here not in LABELLED or here in TERMINAL:
        return False
    return here_time is None or (STAGE[there], there_time, _PLACE[there]) > (
        STAGE[here],
        here_time,
        _PLACE[here],
    )
