"""The transitions of payments and of operations: tables, and pure functions over them.

1. A payment's status changes only along MOVES, an operation's outcome only along OUTCOME_MOVES. A
  further refund in part leaves it partially_refunded.
2. An attempt of an order has one payment in a status of LIVE at most: an attempt is
  charged once, and its outcome (confirmed, failed) is published once.
"""

from enum import StrEnum


class Status(StrEnum):
    """Where a payment stands."""

    PENDING = "pending"  # the operation is stored; its outcome is pending or unknown
    AUTHORIZED = "authorized"  # set aside on the card, not captured
    CAPTURED = "captured"  # the money was taken from the card
    DECLINED = "declined"  # this try was declined; another may follow
    FAILED = "failed"  # declined for good: the order's attempt has failed
    VOIDED = "voided"  # the authorisation was voided, or has expired at the processor
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    NOT_REQUIRED = "not_required"  # the total is zero: no processor was called


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.AUTHORIZED, Status.CAPTURED, Status.DECLINED, Status.FAILED}),
    Status.AUTHORIZED: frozenset({Status.CAPTURED, Status.VOIDED}),
    Status.CAPTURED: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.PARTIALLY_REFUNDED: frozenset({Status.REFUNDED}),
    Status.DECLINED: frozenset(),
    Status.FAILED: frozenset(),
    Status.VOIDED: frozenset(),
    Status.REFUNDED: frozenset(),
    Status.NOT_REQUIRED: frozenset(),
}
# A change to one of these publishes PaymentStatusChanged. Refunds and not-required payments have
# events of their own.
PUBLISHED_STATUSES = frozenset(
    {Status.AUTHORIZED, Status.CAPTURED, Status.DECLINED, Status.FAILED, Status.VOIDED}
)
LIVE = frozenset(Status) - {Status.DECLINED, Status.VOIDED}
# The captured amount is more than zero exactly in these.
CHARGED = frozenset({Status.CAPTURED, Status.PARTIALLY_REFUNDED, Status.REFUNDED})


class Kind(StrEnum):
    """The kind of an operation."""

    AUTHORIZE = "authorize"  # reserve money on the card
    CHARGE = "charge"  # authorise and capture at once
    CAPTURE = "capture"  # take authorised money
    VOID = "void"  # cancel an authorisation
    REFUND = "refund"  # pay captured money back


class Outcome(StrEnum):
    """The outcome of an operation."""

    REQUESTED = "requested"  # no answer yet
    UNKNOWN = "unknown"  # the answer was lost: the outcome is looked up with the same key
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OUTCOME_MOVES: dict[Outcome, frozenset[Outcome]] = {
    Outcome.REQUESTED: frozenset({Outcome.UNKNOWN, Outcome.SUCCEEDED, Outcome.FAILED}),
    Outcome.UNKNOWN: frozenset({Outcome.SUCCEEDED, Outcome.FAILED}),
    Outcome.SUCCEEDED: frozenset(),
    Outcome.FAILED: frozenset(),
}
OPEN = frozenset(outcome for outcome, moves in OUTCOME_MOVES.items() if moves)

# The status of a payment after an operation of this kind has succeeded. After a refund it is
# `status_after_refund`.
STATUS_AFTER_SUCCESS: dict[Kind, Status] = {
    Kind.AUTHORIZE: Status.AUTHORIZED,
    Kind.CHARGE: Status.CAPTURED,
    Kind.CAPTURE: Status.CAPTURED,
    Kind.VOID: Status.VOIDED,
}
# The operations that return money. Several refunds of a payment may be open at once; of its other
# operations one may be.
REVERSALS = frozenset({Kind.VOID, Kind.REFUND})


class Cause(StrEnum):
    """The cause of a void or refund."""

    ORDER = "order"  # automatic: the order costs less than was captured for it, or nothing
    RETURN = "return"  # automatic: units of a return were accepted
    REQUEST = "request"  # a caller requested it


class RefundStatus(StrEnum):
    """The status of a refund, as RPCs and events show it: an operation's outcome in fewer words."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


REFUND_STATUS: dict[Outcome, RefundStatus] = {
    Outcome.REQUESTED: RefundStatus.PENDING,
    Outcome.UNKNOWN: RefundStatus.PENDING,
    Outcome.SUCCEEDED: RefundStatus.COMPLETED,
    Outcome.FAILED: RefundStatus.FAILED,
}


class Reason(StrEnum):
    """Why a payment changed; PaymentStatusReason of the contract says when each is given."""

    PAYMENT_REQUESTED = "PAYMENT_REQUESTED"
    CAPTURE_REQUESTED = "CAPTURE_REQUESTED"
    VOID_REQUESTED = "VOID_REQUESTED"
    REFUND_REQUESTED = "REFUND_REQUESTED"
    NOTHING_TO_PAY = "NOTHING_TO_PAY"
    NOTHING_REFUNDABLE = "NOTHING_REFUNDABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    OUTCOME_PENDING = "OUTCOME_PENDING"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"
    DECLINED = "DECLINED"
    FAILED = "FAILED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    CAPTURE_DECLINED = "CAPTURE_DECLINED"
    VOID_DECLINED = "VOID_DECLINED"
    REFUND_DECLINED = "REFUND_DECLINED"
    AUTHORIZATION_EXPIRED = "AUTHORIZATION_EXPIRED"
    CONTRADICTED = "CONTRADICTED"
    CONTRADICTION_RESOLVED = "CONTRADICTION_RESOLVED"


# Why a payment changed where a request was sent to the processor.
REQUEST_REASON: dict[Kind, Reason] = {
    Kind.AUTHORIZE: Reason.PAYMENT_REQUESTED,
    Kind.CHARGE: Reason.PAYMENT_REQUESTED,
    Kind.CAPTURE: Reason.CAPTURE_REQUESTED,
    Kind.VOID: Reason.VOID_REQUESTED,
    Kind.REFUND: Reason.REFUND_REQUESTED,
}
# Why a payment changed where the processor declined an operation, and the payment keeps its status.
DECLINE_REASON: dict[Kind, Reason] = {
    Kind.CAPTURE: Reason.CAPTURE_DECLINED,
    Kind.VOID: Reason.VOID_DECLINED,
    Kind.REFUND: Reason.REFUND_DECLINED,
}
# Why a payment changed where a processor's answer brought it to this status.
STATUS_REASON: dict[Status, Reason] = {
    Status.AUTHORIZED: Reason.AUTHORIZED,
    Status.CAPTURED: Reason.CAPTURED,
    Status.VOIDED: Reason.VOIDED,
    Status.DECLINED: Reason.DECLINED,
    Status.FAILED: Reason.FAILED,
    Status.PARTIALLY_REFUNDED: Reason.PARTIALLY_REFUNDED,
    Status.REFUNDED: Reason.REFUNDED,
}


# An order's status is text: its name in the contract. A payment is made only for an order in this
# status.
ORDER_PENDING = "pending"
# A status that this version of the service does not define. Nothing is charged for the order.
ORDER_UNKNOWN = "unknown"
# The statuses of a closed order: it costs nothing, independent of its total, and all of its money
# goes back.
CLOSED = frozenset({"cancelled", "failed"})


def status_after_refund(captured: int, refunded: int) -> Status:
    """The status of a payment after this amount of it is refunded."""
    return Status.REFUNDED if refunded == captured else Status.PARTIALLY_REFUNDED


def can_become(old: Status, new: Status) -> bool:
    """Whether a payment may change from one status to the other."""
    return new in MOVES[old]
