"""The payment account of an order, its payments and operations, and their history.

The account is the record of every write: what may be charged for one order, and all payments and
refunds of it. No card data is here, and no payment-method token: a token passes through an
operation to the processor, and is stored nowhere.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.values.money import Money
from payment_svc.lifecycle import CLOSED, LIVE, OPEN, Cause, Kind, Outcome, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What may be charged for the order's current attempt, by the newest version of the order that
    this service has seen.
    """

    id: UUID
    version: int
    attempt: int
    status: str
    total: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A report of a processor about a settled operation that contradicts what it reported before:
    evidence, which moves no money.

    `outcome`, `reference` and `failure_code` are the new report's. `report_id` is the webhook's
    event id; where a call or a lookup got the answer, the request_id of the caller's request, or
    the id of an automatic operation. `payload_sha256` is the SHA-256 of the webhook's body, or of
    the answer. An operator resolves it, with a note of what was found at the processor.
    """

    id: UUID
    outcome: Outcome
    reference: str | None
    failure_code: str | None
    report_id: str
    payload_sha256: bytes
    report_time: datetime
    resolve_time: datetime | None = None
    resolve_note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request to a processor, with `id` as its idempotency key; `amount` in minor units of the
    payment's currency.

    `requested_by` is the key of the requesting command, unique for ever. The settling worker looks
    the outcome up at `next_lookup_time` (None: it is settled); `lookups` counts its lookups. A void
    or refund has a `cause`, and there is one for each `cause_id`: "version:7" of the order, a
    return's id (its second try: with ":2"), or a request_id.
    """

    id: UUID
    kind: Kind
    amount: int
    outcome: Outcome
    requested_by: str
    request_time: datetime
    next_lookup_time: datetime | None
    lookups: int = 0
    reference: str | None = None
    failure_code: str | None = None
    settle_time: datetime | None = None
    cause: Cause | None = None
    cause_id: str | None = None
    contradictions: tuple[Contradiction, ...] = ()

    def contradiction(self, contradiction_id: UUID) -> Contradiction | None:
        return next((c for c in self.contradictions if c.id == contradiction_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund operation, as RPCs and events show it; `amount` in minor units of `currency`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One try to pay one attempt of an order.

    Amounts are minor units of `currency`; refunded + refund_pending (requested, not settled)
    <= captured <= authorized <= amount. `order_version` is the order's version whose total was
    charged, or captured last (None: made by a release that did not store it).
    """

    id: UUID
    order_id: UUID
    attempt: int
    try_number: int
    order_version: int | None
    status: Status
    currency: str
    amount: int
    processor: str
    version: int
    create_time: datetime
    update_time: datetime
    operations: tuple[Operation, ...] = ()

    @property
    def authorized(self) -> int:
        return self._total({Outcome.SUCCEEDED}, Kind.AUTHORIZE, Kind.CHARGE)

    @property
    def captured(self) -> int:
        return self._total({Outcome.SUCCEEDED}, Kind.CHARGE, Kind.CAPTURE)

    @property
    def refunded(self) -> int:
        return self._total({Outcome.SUCCEEDED}, Kind.REFUND)

    @property
    def refund_pending(self) -> int:
        return self._total(OPEN, Kind.REFUND)

    def _total(self, outcomes: Collection[Outcome], *kinds: Kind) -> int:
        return sum(o.amount for o in self.operations if o.kind in kinds and o.outcome in outcomes)

    @property
    def decline_code(self) -> str | None:
        """Why its charge or authorisation was declined, where it was."""
        charges = [o for o in self.operations if o.kind in (Kind.AUTHORIZE, Kind.CHARGE)]
        return next((o.failure_code for o in charges if o.outcome is Outcome.FAILED), None)

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    def operation(self, operation_id: UUID) -> Operation:
        """The payment's operation of that id."""
        return next(o for o in self.operations if o.id == operation_id)

    def requested_by(self, key: str) -> Operation | None:
        """The operation that the command of that key has requested."""
        return next((o for o in self.operations if o.requested_by == key), None)

    @property
    def open_operation(self) -> Operation | None:
        """The unsettled operation that is no refund; there is one at most."""
        return next(
            (o for o in self.operations if o.outcome in OPEN and o.kind is not Kind.REFUND), None
        )

    @property
    def refundable(self) -> int:
        """What was captured and is neither refunded nor being refunded."""
        return self.captured - self.refunded - self.refund_pending

    def reference(self, *kinds: Kind) -> str:
        """The processor's reference of the payment's successful operation of one of these kinds."""
        done = (o for o in self.operations if o.outcome is Outcome.SUCCEEDED)
        reference = next(o.reference for o in done if o.kind in kinds)
        assert reference, "a successful operation has a reference"
        return reference

    def refund(self, operation: Operation) -> Refund:
        """One of the payment's refund operations, as RPCs and events show it."""
        assert operation.cause, "a refund has a cause"
        return Refund(
            id=operation.id,
            payment_id=self.id,
            order_id=self.order_id,
            attempt=self.attempt,
            currency=self.currency,
            amount=operation.amount,
            outcome=operation.outcome,
            cause=operation.cause,
            cause_id=operation.cause_id or "",
            failure_code=operation.failure_code,
            request_time=operation.request_time,
            settle_time=operation.settle_time,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """The ledger account of one order: what may be charged, and the payments, oldest first.

    It has all money that was authorised, captured, voided or refunded for the order. It is no
    account of a customer, a bank or a user.
    """

    order: Order
    payments: tuple[Payment, ...] = ()

    def payment(self, payment_id: UUID) -> Payment | None:
        return next((p for p in self.payments if p.id == payment_id), None)

    def payment_of_operation(self, operation_id: UUID) -> Payment | None:
        return next((p for p in self.payments for o in p.operations if o.id == operation_id), None)

    def requested_by(self, key: str) -> Payment | None:
        """The payment whose operation the command of that key has requested."""
        return next((p for p in self.payments if p.requested_by(key)), None)

    @property
    def live_payment(self) -> Payment | None:
        """The live payment of the order's current attempt, where there is one."""
        return self.live_payment_of(self.order.attempt)

    def live_payment_of(self, attempt: int) -> Payment | None:
        """The live payment of that attempt of the order, where there is one."""
        return next((p for p in self.payments if p.attempt == attempt and p.status in LIVE), None)

    def amount_due(self, payment: Payment) -> int:
        """How much of the payment's money the order costs: nothing where the order is closed, or
        where the payment is of another attempt.
        """
        is_due = payment.attempt == self.order.attempt and self.order.status not in CLOSED
        return self.order.total.minor if is_due else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A row of history: what made one version of a payment.

    It is of the payment's status, or of one operation's outcome.

    `claimed_actor` and `note` are those of the request that made the version; None where no request
    made it, or where the request has none.
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
