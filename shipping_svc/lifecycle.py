"""The statuses of a shipment: tables, and pure functions over them. Nothing else decides which
status may follow which.

1. A status changes only along MOVES. Carriers skip scans, so a parcel may be delivered without a
  report on its way: the jumps are moves like any other, and no step is added in between.
2. Reports arrive in any order. A shipment has the status of the furthest report, so their order
  changes nothing. Of several ends (lost, then found and delivered) the first recorded one stays.
3. A recall is not a status: the carrier answers whether the label is void, or reports where the
  parcels ended. Parcels that it delivers nevertheless are delivered.
"""

from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a shipment stands."""

    PENDING = "pending"  # asked for; the label is being bought
    CREATED = "created"  # the label is bought; the parcels wait for the carrier
    IN_TRANSIT = "in_transit"  # on their way
    OUT_FOR_DELIVERY = "out_for_delivery"  # on the last vehicle
    DELIVERY_FAILED = "delivery_failed"  # the recipient was absent; the carrier tries again
    DELIVERED = "delivered"  # received
    LOST = "lost"  # the carrier cannot find them
    RETURNED_TO_SENDER = "returned_to_sender"  # the carrier brought them back
    # no label will be bought: the carrier refused, the order was closed, or it was recalled first
    FAILED = "failed"
    VOIDED = "voided"  # recalled before the carrier had them: they never left the warehouse


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

# The carrier may report these. Among them a tracking number has one shipment.
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

_RANK = {status: rank for rank, status in enumerate(STAGE)}


def is_further(
    status: Status, status_time: datetime | None, reported: Status, report_time: datetime
) -> bool:
    """Whether a report of `reported` is further on the way than the shipment's `status`; the times
    are the carrier's, of the two reports.

    A later stage is further; within a stage (a second try at the door) the later report is, and
    delivery_failed where both have the same time. Every report is further than a shipment without
    one (`status_time` is None); none is further than an end, or than a shipment without a label.
    """
    if status not in LABELLED or status in TERMINAL:
        return False
    return status_time is None or (STAGE[reported], report_time, _RANK[reported]) > (
        STAGE[status],
        status_time,
        _RANK[status],
    )
