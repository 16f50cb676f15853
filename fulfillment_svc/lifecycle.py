"""The statuses of a fulfilment: tables, and pure functions over them.

1. A status changes only by a trigger, and only along TRIGGERS.
2. An event of shipping (a shipment, a delivery) moves it FORWARD one step at a time, never back.
"""

from enum import StrEnum


class Status(StrEnum):
    """The status of a fulfilment."""

    PENDING = "pending"  # the order is confirmed; the picklist follows at once
    PLANNING = "planning"  # the picklist is built; picking waits until the stock is committed
    PICKING = "picking"  # units are scanned off the shelves
    PICKED = "picked"  # every line is scanned
    PACKING = "packing"  # units go into packages
    PACKED = "packed"  # the packages are closed
    READY = "ready"  # waits for its carrier
    SHIPPED = "shipped"  # with the carrier
    COMPLETED = "completed"  # delivered
    CANCELLED = "cancelled"  # ended before shipping


class Trigger(StrEnum):
    """The cause of a change of status."""

    PLAN = "plan"
    START_PICKING = "start_picking"
    COMPLETE_PICKING = "complete_picking"
    START_PACKING = "start_packing"
    PACK = "pack"
    MAKE_READY = "make_ready"  # no inspection is required, or it has passed
    FAIL_INSPECTION = "fail_inspection"
    CUT = "cut"  # units leave the order after they were packed
    SHIP = "ship"
    COMPLETE = "complete"
    CANCEL = "cancel"


class InspectionRule(StrEnum):
    """Why packages are inspected before they leave."""

    ORDER_VALUE = "order_value"
    SKU = "sku"
    SAMPLE = "sample"


class Reason(StrEnum):
    """Why a fulfilment changed: in its history and its events.

    The contract's FulfillmentStatusReason has the same names.
    """

    ORDER_CONFIRMED = "ORDER_CONFIRMED"
    PICKLIST_BUILT = "PICKLIST_BUILT"
    PICKING_STARTED = "PICKING_STARTED"
    UNITS_SCANNED = "UNITS_SCANNED"
    PICKING_COMPLETED = "PICKING_COMPLETED"
    SHORT_PICK = "SHORT_PICK"
    PACKING_STARTED = "PACKING_STARTED"
    PACKING_COMPLETED = "PACKING_COMPLETED"
    INSPECTION_NOT_REQUIRED = "INSPECTION_NOT_REQUIRED"
    INSPECTION_PASSED = "INSPECTION_PASSED"
    INSPECTION_FAILED = "INSPECTION_FAILED"
    SPOILED_UNITS_FOUND = "SPOILED_UNITS_FOUND"
    UNITS_CUT = "UNITS_CUT"
    WITHDRAWN = "WITHDRAWN"
    SHIPMENT_CREATED = "SHIPMENT_CREATED"
    SHIPPED_AFTER_VOID = "SHIPPED_AFTER_VOID"
    DELIVERY_CONFIRMED = "DELIVERY_CONFIRMED"
    ORDER_CANCELLED = "ORDER_CANCELLED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    NO_UNITS_REMAINING = "NO_UNITS_REMAINING"
    STOCK_COMMITTED_ELSEWHERE = "STOCK_COMMITTED_ELSEWHERE"


class WithdrawReason(StrEnum):
    """Why a ready fulfilment is withdrawn. Each is a Reason too."""

    UNITS_CUT = "UNITS_CUT"
    ORDER_CANCELLED = "ORDER_CANCELLED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    INSPECTION_FAILED = "INSPECTION_FAILED"


FORWARD = (
    Status.PENDING,
    Status.PLANNING,
    Status.PICKING,
    Status.PICKED,
    Status.PACKING,
    Status.PACKED,
    Status.READY,
    Status.SHIPPED,
    Status.COMPLETED,
)
TRIGGERS: dict[Trigger, dict[Status, Status]] = {
    Trigger.PLAN: {Status.PENDING: Status.PLANNING},
    Trigger.START_PICKING: {Status.PLANNING: Status.PICKING},
    Trigger.COMPLETE_PICKING: {Status.PICKING: Status.PICKED},
    Trigger.START_PACKING: {Status.PICKED: Status.PACKING},
    Trigger.PACK: {Status.PACKING: Status.PACKED},
    Trigger.MAKE_READY: {Status.PACKED: Status.READY},
    Trigger.FAIL_INSPECTION: {Status.PACKED: Status.PICKING},
    Trigger.CUT: {Status.PACKED: Status.PACKING, Status.READY: Status.PACKING},
    Trigger.SHIP: {Status.READY: Status.SHIPPED},
    Trigger.COMPLETE: {Status.SHIPPED: Status.COMPLETED},
    Trigger.CANCEL: dict.fromkeys(FORWARD[: FORWARD.index(Status.SHIPPED)], Status.CANCELLED),
}
MOVES: dict[Status, frozenset[Status]] = {
    status: frozenset(moves[status] for moves in TRIGGERS.values() if status in moves)
    for status in Status
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)


def path_between(current: Status, target: Status) -> tuple[Status, ...]:
    """Returns the steps forward from `current` to `target`, each along MOVES; none where `current`
    is the target, a later status, or cancelled.
    """
    if current not in FORWARD or target not in FORWARD:
        return ()
    return FORWARD[FORWARD.index(current) + 1 : FORWARD.index(target) + 1]
