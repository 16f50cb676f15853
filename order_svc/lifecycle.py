"""Which status may follow which: tables, and pure functions over them. Nothing else decides what an
order may become.

1. A status changes only along MOVES.
2. Forward events walk RANK one step at a time, and never backwards.
"""

from collections.abc import Collection, Iterable
from enum import StrEnum


class Status(StrEnum):
    """Where an order stands."""

    PENDING = "pending"  # created, stock reserved, awaiting payment
    CONFIRMED = "confirmed"  # paid, stock committed or commit pending
    PROCESSING = "processing"  # being planned, picked, packed, inspected
    SHIPPED = "shipped"  # every parcel has a label, or had one that was withdrawn
    DELIVERED = "delivered"  # received by the customer
    CANCELLED = "cancelled"  # ended before delivery
    REFUNDED = "refunded"  # all captured money went back after delivery
    FAILED = "failed"  # the warehouse refused to commit its stock


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CONFIRMED, Status.CANCELLED, Status.FAILED}),
    Status.CONFIRMED: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.SHIPPED, Status.CANCELLED}),
    Status.SHIPPED: frozenset({Status.DELIVERED, Status.CANCELLED}),  # cancelled: a recall
    Status.DELIVERED: frozenset({Status.REFUNDED}),
    Status.FAILED: frozenset({Status.PENDING}),  # a retry
    Status.CANCELLED: frozenset(),
    Status.REFUNDED: frozenset(),
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)
RANK = {
    status: rank
    for rank, status in enumerate(
        (Status.PENDING, Status.CONFIRMED, Status.PROCESSING, Status.SHIPPED, Status.DELIVERED), 1
    )
}
# An order in one of these statuses gives up its external reference: another order may have it.
CANCELLED_OR_FAILED = frozenset({Status.CANCELLED, Status.FAILED})


class Reason(StrEnum):
    """Why an order stands where it does.

    The contract publishes and describes the same values as OrderStatusReason. A row of history has
    one of these, or a code of a caller, of the warehouse or of a fulfilment.
    """

    ORDER_PLACED = "ORDER_PLACED"
    PAYMENT_CONFIRMED = "PAYMENT_CONFIRMED"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    PAYMENT_EXPIRED = "PAYMENT_EXPIRED"
    CUSTOMER_REQUEST = "CUSTOMER_REQUEST"
    ORDER_RETRIED = "ORDER_RETRIED"
    STOCK_UNAVAILABLE = "STOCK_UNAVAILABLE"
    FULFILLMENT_PENDING = "FULFILLMENT_PENDING"
    FULFILLMENT_PLANNING = "FULFILLMENT_PLANNING"
    FULFILLMENT_PICKING = "FULFILLMENT_PICKING"
    FULFILLMENT_PICKED = "FULFILLMENT_PICKED"
    FULFILLMENT_PACKING = "FULFILLMENT_PACKING"
    FULFILLMENT_PACKED = "FULFILLMENT_PACKED"
    FULFILLMENT_READY = "FULFILLMENT_READY"
    FULFILLMENT_SHIPPED = "FULFILLMENT_SHIPPED"
    FULFILLMENT_COMPLETED = "FULFILLMENT_COMPLETED"
    FULFILLMENT_CANCELLED = "FULFILLMENT_CANCELLED"
    SHIPMENT_CREATED = "SHIPMENT_CREATED"
    SHIPMENT_WITHDRAWN = "SHIPMENT_WITHDRAWN"
    DELIVERY_CONFIRMED = "DELIVERY_CONFIRMED"
    PARCEL_LOST = "PARCEL_LOST"
    PARCEL_RETURNED = "PARCEL_RETURNED"
    PARCEL_VOIDED = "PARCEL_VOIDED"
    REFUND_COMPLETED = "REFUND_COMPLETED"


class PaymentOutcome(StrEnum):
    """What payment reported of an attempt while its order awaited the payment."""

    NONE = "none"  # no report yet
    CAPTURED = "captured"
    NOT_REQUIRED = "not_required"  # it costs nothing
    DECLINED = "declined"


class Commit(StrEnum):
    """What became of the commit of a paid attempt's stock."""

    NONE = "none"  # it is not paid
    PENDING = "pending"  # the warehouse has not yet answered
    COMMITTED = "committed"
    REFUSED = "refused"  # for good
    FREED = "freed"  # committed, and back on the shelf since


class PaymentStatus(StrEnum):
    """The state of the order's payment."""

    NOT_REQUIRED = "not_required"
    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


class Progress(StrEnum):
    """How far the order's goods are on their way out."""

    UNFULFILLED = "unfulfilled"
    PARTIALLY_SHIPPED = "partially_shipped"
    SHIPPED = "shipped"
    PARTIALLY_DELIVERED = "partially_delivered"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class StockStatus(StrEnum):
    """The state of the order's stock."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    COMMIT_PENDING = "commit_pending"  # paid; the warehouse has not yet answered that it committed
    DEDUCTED = "deducted"
    RELEASED = "released"
    RETURNED = "returned"


class ReturnProgress(StrEnum):
    """How much of the order has come back and was inspected."""

    NONE = "none"
    OPEN = "open"  # a return is active
    PARTIAL = "partial"
    FULL = "full"


class FulfillmentState(StrEnum):
    """The last status of one warehouse's fulfilment that the order service consumed."""

    EXPECTED = "expected"  # no event of it yet
    PENDING = "pending"
    PLANNING = "planning"
    PICKING = "picking"
    PICKED = "picked"
    PACKING = "packing"
    PACKED = "packed"
    READY = "ready"
    SHIPPED = "shipped"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class ShipmentOutcome(StrEnum):
    """How a parcel ended that did not reach its customer."""

    LOST = "lost"
    RETURNED = "returned"  # to its sender
    VOIDED = "voided"  # recalled before the carrier had it


# The order status that follows from the state of one fulfilment; for several of them see
# `status_of`. Delivery follows from the carrier's report alone.
STATUS_BY_FULFILLMENT_STATE: dict[FulfillmentState, Status | None] = {
    FulfillmentState.EXPECTED: Status.CONFIRMED,
    FulfillmentState.PENDING: Status.CONFIRMED,
    FulfillmentState.PLANNING: Status.PROCESSING,
    FulfillmentState.PICKING: Status.PROCESSING,
    FulfillmentState.PICKED: Status.PROCESSING,
    FulfillmentState.PACKING: Status.PROCESSING,
    FulfillmentState.PACKED: Status.PROCESSING,
    FulfillmentState.READY: Status.PROCESSING,
    FulfillmentState.SHIPPED: Status.SHIPPED,
    FulfillmentState.COMPLETED: Status.SHIPPED,
    FulfillmentState.CANCELLED: None,  # other fulfilments determine the order's status
}


# The goods of a fulfilment in one of these states have left its warehouse.
SHIPPED_STATES = frozenset({FulfillmentState.SHIPPED, FulfillmentState.COMPLETED})
# Where `captured` is 0. A cancelled order without an outcome is the exception.
PAYMENT_STATUS_BY_OUTCOME = {
    PaymentOutcome.NONE: PaymentStatus.PENDING,
    PaymentOutcome.CAPTURED: PaymentStatus.COMPLETED,
    PaymentOutcome.NOT_REQUIRED: PaymentStatus.NOT_REQUIRED,
    PaymentOutcome.DECLINED: PaymentStatus.FAILED,
}
# Of an order that has units, and whose goods have not all left.
STOCK_STATUS_BY_COMMIT = {
    Commit.NONE: StockStatus.RESERVED,
    Commit.PENDING: StockStatus.COMMIT_PENDING,
    Commit.COMMITTED: StockStatus.COMMITTED,
    Commit.REFUSED: StockStatus.RELEASED,
    Commit.FREED: StockStatus.RELEASED,
}
# Statuses before shipped: some or all units are not with a carrier.
NOT_FULLY_SHIPPED = frozenset(
    status for status, rank in RANK.items() if rank < RANK[Status.SHIPPED]
)
# All goods of an order in one of these statuses have left, or had before a label was withdrawn.
DEDUCTED_STATUSES = frozenset({Status.SHIPPED, Status.DELIVERED, Status.REFUNDED})


def path(start: Status, end: Status) -> tuple[Status, ...]:
    """Returns the statuses from start (left out) to end, each a move of MOVES.

    The path is empty where end is not after start, or where one of them has no rank.
    """
    if start not in RANK or end not in RANK:
        return ()
    return tuple(status for status, rank in RANK.items() if RANK[start] < rank <= RANK[end])


def order_status_from(
    state: FulfillmentState, *, shipped: bool, delivered: bool, has_outcome: bool = False
) -> Status | None:
    """Returns the order status that follows from one warehouse's fulfilment and its shipment.

    None: the fulfilment is cancelled, or its parcel has an outcome (lost, returned, voided). The
    events of fulfilment and shipping may come in any order.
    """
    status = None if has_outcome else STATUS_BY_FULFILLMENT_STATE[state]
    if status is None or delivered:
        return status and Status.DELIVERED
    return Status.SHIPPED if shipped else status


def status_of(statuses: Iterable[Status | None]) -> Status | None:
    """Returns the order status that follows from the statuses of all its fulfilments.

    An order is processing once the first of them has started, and shipped or delivered once each
    of them is, those without a status (None) left out. None where no fulfilment has a status.
    """
    ranks = [RANK[status] for status in statuses if status]
    if not ranks:
        return None
    started = min(max(ranks), RANK[Status.PROCESSING])
    return _BY_RANK[max(min(ranks), started)]


def progress_of(statuses: Iterable[Status | None]) -> Progress:
    """Returns the progress that a customer sees, from the same statuses as `status_of`."""
    live = [status for status in statuses if status]
    delivered = live.count(Status.DELIVERED)
    shipped = delivered + live.count(Status.SHIPPED)
    if not live:
        return Progress.CANCELLED
    if delivered:
        return Progress.DELIVERED if delivered == len(live) else Progress.PARTIALLY_DELIVERED
    if shipped:
        return Progress.SHIPPED if shipped == len(live) else Progress.PARTIALLY_SHIPPED
    return Progress.UNFULFILLED


_BY_RANK = {rank: status for status, rank in RANK.items()}


class ReturnStatus(StrEnum):
    """Where a return stands."""

    REQUESTED = "requested"  # the customer wants to send units back
    APPROVED = "approved"  # they may come
    REJECTED = "rejected"  # they may not
    IN_TRANSIT = "in_transit"  # they are on their way
    RECEIVED = "received"  # some or all have arrived; more may
    INSPECTED = "inspected"  # each unit that arrived has been looked at
    REFUNDED = "refunded"  # the money went back
    CLOSED = "closed"  # done
    CANCELLED = "cancelled"  # called off before anything arrived


RETURN_MOVES: dict[ReturnStatus, frozenset[ReturnStatus]] = {
    ReturnStatus.REQUESTED: frozenset(
        {ReturnStatus.APPROVED, ReturnStatus.REJECTED, ReturnStatus.CANCELLED}
    ),
    ReturnStatus.APPROVED: frozenset(
        {ReturnStatus.IN_TRANSIT, ReturnStatus.RECEIVED, ReturnStatus.CANCELLED}
    ),
    ReturnStatus.REJECTED: frozenset(),
    ReturnStatus.IN_TRANSIT: frozenset({ReturnStatus.RECEIVED, ReturnStatus.CANCELLED}),
    # received again: more units
    ReturnStatus.RECEIVED: frozenset({ReturnStatus.RECEIVED, ReturnStatus.INSPECTED}),
    ReturnStatus.INSPECTED: frozenset({ReturnStatus.REFUNDED, ReturnStatus.CLOSED}),
    ReturnStatus.REFUNDED: frozenset({ReturnStatus.CLOSED}),
    ReturnStatus.CLOSED: frozenset(),
    ReturnStatus.CANCELLED: frozenset(),
}
# Statuses of a return whose units are still to arrive or to be inspected: it holds what was
# announced.
ACTIVE_RETURN_STATUSES = frozenset(
    {ReturnStatus.REQUESTED, ReturnStatus.APPROVED, ReturnStatus.IN_TRANSIT, ReturnStatus.RECEIVED}
)


# Of an ended order: what an event or an operator still has to close.
OPEN_STOCK = frozenset({StockStatus.RESERVED, StockStatus.COMMITTED, StockStatus.COMMIT_PENDING})
OPEN_FULFILLMENT_STATES = (
    frozenset(FulfillmentState) - SHIPPED_STATES - {FulfillmentState.CANCELLED}
)
OPEN_RETURN_STATUSES = frozenset(status for status, moves in RETURN_MOVES.items() if moves)


def closed(
    status: Status,
    stock: StockStatus,
    fulfillment_states: Collection[FulfillmentState],
    returns: Collection[ReturnStatus],
    *,
    refund_due: bool,
) -> bool:
    """Whether an order has ended and nothing of it is open: a watch of it ends.

    fulfillment_states   of its current attempt's fulfilments
    returns              of all its returns, the recalls included
    refund_due           some captured money of the current attempt is not refunded

    A failed order can be retried and a delivered one can be returned: neither is closed. An order
    that was cancelled while pending may have fulfilments that were only expected: with its stock
    released they are never created.
    """
    if status not in TERMINAL or stock in OPEN_STOCK or refund_due:
        return False
    never_created = {FulfillmentState.EXPECTED} if stock is StockStatus.RELEASED else set()
    return OPEN_RETURN_STATUSES.isdisjoint(returns) and (
        OPEN_FULFILLMENT_STATES - never_created
    ).isdisjoint(fulfillment_states)


class ReturnReason(StrEnum):
    """Why a return stands where it does.

    The contract publishes and describes the same values as ReturnStatusReason. A row of its history
    has one of these, or the code with which a caller rejected the return.
    """

    RETURN_REQUESTED = "RETURN_REQUESTED"
    RECALLED = "RECALLED"
    RETURN_APPROVED = "RETURN_APPROVED"
    RETURN_REJECTED = "RETURN_REJECTED"
    RETURN_IN_TRANSIT = "RETURN_IN_TRANSIT"
    RETURN_CANCELLED = "RETURN_CANCELLED"
    RETURN_RECEIVED = "RETURN_RECEIVED"
    RETURN_INSPECTED = "RETURN_INSPECTED"
    REFUND_WITHOUT_GOODS = "REFUND_WITHOUT_GOODS"
    RETURN_REFUNDED = "RETURN_REFUNDED"
    REFUND_FAILED = "REFUND_FAILED"
    NOTHING_REFUNDABLE = "NOTHING_REFUNDABLE"
    RETURN_CLOSED = "RETURN_CLOSED"
    PARCEL_LOST = "PARCEL_LOST"


class ReturnKind(StrEnum):
    """Why there is a return."""

    CUSTOMER = "customer"  # the customer sends goods back, and is refunded
    # goods that had left for what was cancelled; their money went back with the cancellation
    RECALL = "recall"
    # a refund of goods that do not come back: inspected from the start
    WITHOUT_GOODS = "without_goods"


class Disposition(StrEnum):
    """What becomes of units that are refunded without coming back."""

    NONE = "none"  # nothing: the customer keeps them, or they are gone
    RESTOCK = "restock"  # they are on the shelf already
    DAMAGED = "damaged"  # they are in the warehouse, and cannot be sold
