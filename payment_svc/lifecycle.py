"""Which status may follow which, of payments and of what is asked of processors: tables, and pure
functions over them.

1. A payment's status changes only along MOVES, an operation's outcome only along OUTCOME_MOVES. A
  further refund in part leaves it partially_refunded.
2. An attempt of an order has one payment in a status of ONE_PER_ATTEMPT at most: what was charged
  is charged once, and what is told of the attempt (confirmed, failed) is told once.
"""

from enum import StrEnum


class Status(StrEnum):
    """Where a payment stands."""

    PENDING = "pending"  # the intent is written; the processor's answer is awaited, or unknown
    AUTHORIZED = "authorized"  # set aside on the card, not captured
    CAPTURED = "captured"  # the money is ours
    DECLINED = "declined"  # this try came to nothing, and another may be made
    FAILED = "failed"  # declined for good: the order's attempt has failed
    VOIDED = "voided"  # the authorisation was given back, or has expired at the processor
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    NOT_REQUIRED = "not_required"  # the total is zero: no processor was asked


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
TERMINAL = frozenset(status for status, moves in MOVES.items() if not moves)
# A change to one of these is an event of its own. Refunds and payments of nothing have events that
# say more.
PUBLISHED_STATUSES = frozenset(
    {Status.AUTHORIZED, Status.CAPTURED, Status.DECLINED, Status.FAILED, Status.VOIDED}
)
ONE_PER_ATTEMPT = frozenset(Status) - {Status.DECLINED, Status.VOIDED}
# Money of the customer's is with us, or was: what was captured is more than zero exactly in these.
CHARGED = frozenset({Status.CAPTURED, Status.PARTIALLY_REFUNDED, Status.REFUNDED})


class Kind(StrEnum):
    """What is asked of a processor."""

    AUTHORIZE = "authorize"  # set money aside on the card
    CHARGE = "charge"  # set it aside and take it, at once
    CAPTURE = "capture"  # take what was set aside
    VOID = "void"  # give an authorisation back
    REFUND = "refund"  # give captured money back


class Outcome(StrEnum):
    """What came of it."""

    REQUESTED = "requested"  # no answer yet
    UNKNOWN = "unknown"  # the answer was lost: it is asked for again, with the same key
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OUTCOME_MOVES: dict[Outcome, frozenset[Outcome]] = {
    Outcome.REQUESTED: frozenset({Outcome.UNKNOWN, Outcome.SUCCEEDED, Outcome.FAILED}),
    Outcome.UNKNOWN: frozenset({Outcome.SUCCEEDED, Outcome.FAILED}),
    Outcome.SUCCEEDED: frozenset(),
    Outcome.FAILED: frozenset(),
}
OPEN = frozenset(outcome for outcome, moves in OUTCOME_MOVES.items() if moves)

# What a payment becomes when that which was asked for it succeeds. A refund's success means
# `after_refund`.
SUCCESS_MEANS: dict[Kind, Status] = {
    Kind.AUTHORIZE: Status.AUTHORIZED,
    Kind.CHARGE: Status.CAPTURED,
    Kind.CAPTURE: Status.CAPTURED,
    Kind.VOID: Status.VOIDED,
}
# Money goes back by these; several refunds may be open at once, of all other kinds one.
BACK = frozenset({Kind.VOID, Kind.REFUND})


class Cause(StrEnum):
    """Why money goes back."""

    ORDER = "order"  # the order costs less than was taken for it, or nothing: by itself
    RETURN = "return"  # units of a return were accepted: by itself
    REQUEST = "request"  # somebody asked for it


class RefundStatus(StrEnum):
    """Where a refund stands, as it is told: an operation's outcome in fewer words."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


REFUND_STATUS: dict[Outcome, RefundStatus] = {
    Outcome.REQUESTED: RefundStatus.PENDING,
    Outcome.UNKNOWN: RefundStatus.PENDING,
    Outcome.SUCCEEDED: RefundStatus.COMPLETED,
    Outcome.FAILED: RefundStatus.FAILED,
}


class OrderStatus(StrEnum):
    """What the order service says of an order. Only a pending one is paid for."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    FAILED = "failed"
    # one that came to the contract after this service was built: nothing is charged for it
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a payment changed; PaymentStatusReason of the contract says when each is given."""

    PAYMENT_REQUESTED = "PAYMENT_REQUESTED"
    CAPTURE_REQUESTED = "CAPTURE_REQUESTED"
    VOID_REQUESTED = "VOID_REQUESTED"
    REFUND_REQUESTED = "REFUND_REQUESTED"
    NOTHING_TO_PAY = "NOTHING_TO_PAY"
    NOTHING_REFUNDABLE = "NOTHING_REFUNDABLE"
    ANSWER_LOST = "ANSWER_LOST"
    AWAITED = "AWAITED"
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


# Why a payment changed where a request asked the processor for this.
REQUEST_REASON: dict[Kind, Reason] = {
    Kind.AUTHORIZE: Reason.PAYMENT_REQUESTED,
    Kind.CHARGE: Reason.PAYMENT_REQUESTED,
    Kind.CAPTURE: Reason.CAPTURE_REQUESTED,
    Kind.VOID: Reason.VOID_REQUESTED,
    Kind.REFUND: Reason.REFUND_REQUESTED,
}
# Why a payment changed where the processor declined this, and the payment keeps its status.
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


# An order in one of these costs nothing, whatever its total says: all that was taken for it goes
# back.
DEAD = frozenset({OrderStatus.CANCELLED, OrderStatus.FAILED})


def after_refund(captured: int, refunded: int) -> Status:
    """What a payment becomes when so much of it has gone back."""
    return Status.REFUNDED if refunded == captured else Status.PARTIALLY_REFUNDED


def may(here: Status, there: Status) -> bool:
    """Whether a payment may go from here to there."""
    return there in MOVES[here]
