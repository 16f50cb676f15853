"""The account of an order, its payments and what was asked of processors for them, their history
and facts.

The account is the record of every write: what may be charged for one order, and all that was tried
to charge it. No card data is here, and no payment-method token: a token passes through an operation
to the processor, and is stored nowhere.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.values.money import Money
from payment_svc.lifecycle import (
    DEAD,
    ONE_PER_ATTEMPT,
    OPEN,
    Cause,
    Kind,
    OrderStatus,
    Outcome,
    Status,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What may be charged, as last heard from the order service: of a version, of the order's
    current attempt.
    """

    id: UUID
    version: int
    attempt: int
    status: OrderStatus
    total: Money


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What a processor said of a settled operation, against what it had said before: evidence, of
    which nothing is booked.

    `outcome`, `reference` and `failure_code` are what it says now. `report_id` is the webhook's
    event id, or the operation's id where a call was answered so; `payload_digest` is the SHA-256 of
    the webhook's body, or of the answer. An operator resolves it, with a note of what was found at
    the processor.
    """

    id: UUID
    outcome: Outcome
    reference: str | None
    failure_code: str | None
    report_id: str
    payload_digest: bytes
    report_time: datetime
    resolve_time: datetime | None = None
    resolve_note: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of a processor, with `id` as its idempotency key; `amount` in minor units of
    the payment's currency.

    `requested_by` is the key of the command that asked, unique for ever. `ask_time` is when the
    settling worker asks next (None: it is settled), `asks` how often it has. What gives money back
    has a `cause`, and is asked once for each `cause_id`: "version:7" of the order, a return's id
    (its second try: with ":2"), or a request_id.
    """

    id: UUID
    kind: Kind
    amount: int
    outcome: Outcome
    requested_by: str
    request_time: datetime
    ask_time: datetime | None
    asks: int = 0
    reference: str | None = None
    failure_code: str | None = None
    settle_time: datetime | None = None
    cause: Cause | None = None
    cause_id: str | None = None
    contradictions: tuple[Contradiction, ...] = ()

    def contradiction(self, contradiction_id: UUID) -> Contradiction | None:
        return next((c for c in self.contradictions if c.id == contradiction_id), None)


@dataclass(frozen=True, slots=True)
class Refund:
    """An operation that gives captured money back, as it is told; `amount` in minor units of
    `currency`.
    """

    id: UUID
    payment_id: UUID
    order_id: UUID
    attempt: int
    currency: str
    amount: int
    outcome: Outcome
    cause: Cause
    cause_id: str
    failure_code: str | None
    request_time: datetime
    settle_time: datetime | None

    @property
    def update_time(self) -> datetime:
        """When it last changed: a refund changes once, when it is settled."""
        return self.settle_time or self.request_time


@dataclass(frozen=True, slots=True)
class Payment:
    """One try to pay one attempt of an order.

    Amounts are minor units of `currency`; refunded + refund_pending (asked for, not yet answered)
    <= captured <= authorized <= amount. `order_version` is the order's version whose total was
    charged, or captured last (None: made by a release before that stored it).
    """

    id: UUID
    order_id: UUID
    attempt: int
    try_number: int
    order_version: int | None
    status: Status
    currency: str
    amount: int
    authorized: int
    captured: int
    refunded: int
    refund_pending: int
    processor: str
    decline_code: str | None
    version: int
    create_time: datetime
    update_time: datetime
    operations: tuple[Operation, ...] = ()

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    def operation(self, operation_id: UUID) -> Operation | None:
        return next((o for o in self.operations if o.id == operation_id), None)

    def requested_by(self, key: str) -> Operation | None:
        """What the command of that key has asked the processor for."""
        return next((o for o in self.operations if o.requested_by == key), None)

    @property
    def open_operation(self) -> Operation | None:
        """What is asked of the processor beside refunds, and not yet settled; there is one at
        most.
        """
        return next(
            (o for o in self.operations if o.outcome in OPEN and o.kind is not Kind.REFUND), None
        )

    @property
    def refundable(self) -> int:
        """What was captured and is neither refunded nor being refunded."""
        return self.captured - self.refunded - self.refund_pending

    @property
    def authorization(self) -> str | None:
        """The processor's name for the money that it has set aside, where it has."""
        return self._reference(Kind.AUTHORIZE)

    @property
    def charge(self) -> str | None:
        """The processor's name for the money that it has taken, where it has."""
        return self._reference(Kind.CHARGE, Kind.CAPTURE)

    def _reference(self, *kinds: Kind) -> str | None:
        return next(
            (
                o.reference
                for o in self.operations
                if o.kind in kinds and o.outcome is Outcome.SUCCEEDED
            ),
            None,
        )

    def refund(self, its: Operation) -> Refund:
        """One of its operations, as a refund is told. `its` gives captured money back."""
        assert its.cause, "whatever gives money back has its cause"
        return Refund(
            id=its.id,
            payment_id=self.id,
            order_id=self.order_id,
            attempt=self.attempt,
            currency=self.currency,
            amount=its.amount,
            outcome=its.outcome,
            cause=its.cause,
            cause_id=its.cause_id or "",
            failure_code=its.failure_code,
            request_time=its.request_time,
            settle_time=its.settle_time,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """All the money of one order: what may be charged, and its payments, oldest first."""

    order: Order
    payments: tuple[Payment, ...] = ()

    def payment(self, payment_id: UUID) -> Payment | None:
        return next((p for p in self.payments if p.id == payment_id), None)

    def of_operation(self, operation_id: UUID) -> Payment | None:
        return next((p for p in self.payments if p.operation(operation_id)), None)

    def requested_by(self, key: str) -> Payment | None:
        """The payment for which the command of that key has asked something."""
        return next((p for p in self.payments if p.requested_by(key)), None)

    @property
    def tries(self) -> tuple[Payment, ...]:
        """The payments of the order's current attempt."""
        return tuple(p for p in self.payments if p.attempt == self.order.attempt)

    @property
    def live(self) -> Payment | None:
        """The one payment that stands for the order's current attempt, where there is one."""
        return self.live_of(self.order.attempt)

    def live_of(self, attempt: int) -> Payment | None:
        """The one payment that stands for that attempt of the order, where there is one."""
        return next(
            (p for p in self.payments if p.attempt == attempt and p.status in ONE_PER_ATTEMPT), None
        )

    def due(self, payment: Payment) -> int:
        """How much of the payment's money the order costs: nothing where it is dead, or where
        the payment is of another attempt.
        """
        wanted = payment.attempt == self.order.attempt and self.order.status not in DEAD
        return self.order.total.minor if wanted else 0


@dataclass(frozen=True, slots=True)
class Change:
    """A row of history: what made one version of a payment.

    It is of the payment's status, or of one operation's outcome.

    `claimed_actor` and `note` are those of the request that made it; None where none did, or where
    it gave none.
    """

    payment_id: UUID
    version: int
    old: Status | None
    new: Status
    operation_id: UUID | None
    outcome: Outcome | None
    reason: str
    actor: str
    cause: str
    time: datetime
    claimed_actor: str | None = None
    note: str | None = None


# --- facts. Each has the row of history that made it.


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The payment's attempt is paid: captured, or nothing was to be paid."""

    payment: Payment
    change: Change


@dataclass(frozen=True, slots=True)
class Failed:
    """The payment's attempt is finally not paid."""

    payment: Payment
    change: Change


@dataclass(frozen=True, slots=True)
class RefundSettled:
    """Money went back, or did not: as the refund's outcome says. The payment as it is then."""

    payment: Payment
    change: Change
    refund: Refund


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The payment went to a status that is not a refund's: as the row of history says. The
    payment as the decision left it.
    """

    payment: Payment
    change: Change


Fact = Confirmed | Failed | RefundSettled | StatusChanged
