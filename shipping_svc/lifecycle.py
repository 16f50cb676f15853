"""The statuses of a shipment: tables, and pure functions over them.

1. A status changes only along MOVES. Carriers skip scans, so a parcel may be delivered without an
  earlier report: MOVES has the jumps too, and the history has no transition in between.
2. Reports arrive in any order. A shipment has the status of the furthest report, so their order
  changes nothing. Of several final statuses (lost, then delivered) the first recorded one stays.
3. A recall is not a status: the carrier answers whether the label is void, or reports where the
  parcels ended. Recalled parcels that the carrier delivers are delivered.
"""

from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """The status of a shipment."""

    PENDING = "pending"  # stored; its label is still to be bought
    CREATED = "created"  # the label is bought; the carrier has no parcel yet
    IN_TRANSIT = "in_transit"  # the carrier has the parcels
    OUT_FOR_DELIVERY = "out_for_delivery"  # the parcels are on the last vehicle
    DELIVERY_FAILED = "delivery_failed"  # the recipient was absent; the carrier tries again
    DELIVERED = "delivered"  # the recipient has the parcels
    LOST = "lost"  # the carrier cannot find the parcels
    RETURNED_TO_SENDER = "returned_to_sender"  # the carrier brought the parcels back
    FAILED = "failed"  # it gets no label; the reason says why
    VOIDED = "voided"  # the label is void: the parcels never left the warehouse


class Reason(StrEnum):
    """Why a shipment changed; the contract's ShipmentStatusReason describes each reason."""

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


_REPORTED_ENDS = frozenset({Status.DELIVERED, Status.LOST, Status.RETURNED_TO_SENDER})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CREATED, Status.FAILED}),
    Status.CREATED: frozenset(
        {Status.IN_TRANSIT, Status.OUT_FOR_DELIVERY, Status.DELIVERY_FAILED, Status.VOIDED}
    )
    | _REPORTED_ENDS,
    Status.IN_TRANSIT: frozenset({Status.OUT_FOR_DELIVERY, Status.DELIVERY_FAILED})
    | _REPORTED_ENDS,
    Status.OUT_FOR_DELIVERY: frozenset({Status.DELIVERY_FAILED}) | _REPORTED_ENDS,
    Status.DELIVERY_FAILED: frozenset({Status.OUT_FOR_DELIVERY}) | _REPORTED_ENDS,
    Status.DELIVERED: frozenset(),
    Status.LOST: frozenset(),
    Status.RETURNED_TO_SENDER: frozenset(),
    Status.FAILED: frozenset(),
    Status.VOIDED: frozenset(),
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)

# The shipment has a label, or had one, and a tracking number.
LABELLED = frozenset(MOVES) - {Status.PENDING, Status.FAILED}

# The carrier may report the shipment. A tracking number has at most one such shipment of a carrier.
LIVE = LABELLED - TERMINAL

# The place of a status on a parcel's way. A carrier can report each of them but CREATED.
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
    """Returns whether a report of `reported` is further on the way than the shipment's `status`.

    `status_time` and `report_time` are the carrier's times of the two reports. A later stage is
    further. Within a stage (a second try at the door) the later report is further, and
    delivery_failed where both have the same time. Every report is further than a shipment without
    one (`status_time` is None). No report is further than a final status, or than a shipment
    without a label.
    """
    if status not in LABELLED or status in TERMINAL:
        return False
    return status_time is None or (STAGE[reported], report_time, _RANK[reported]) > (
        STAGE[status],
        status_time,
        _RANK[status],
    )
