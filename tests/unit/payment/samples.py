"""Accounts and commands for the tests of payments. No tests here."""

from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID, uuid5

from chassis.values.envelope import Envelope
from chassis.values.money import Money
from payment_svc.decisions.transitions import Decided
from payment_svc.lifecycle import CHARGED, Cause, Kind, Outcome, Status
from payment_svc.model.answers import Answer, Declined, answer_hash
from payment_svc.model.commands import (
    ApplyOrderVersion,
    CapturePayment,
    CreatePayment,
    NewOperation,
    RecordUnknownOutcome,
    RefundPayment,
    RefundReturn,
    ResolveContradiction,
    RetryLookup,
    Settle,
    VoidPayment,
)
from payment_svc.model.events import PaymentStatusChanged
from payment_svc.model.records import Account, Operation, Order, Payment

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)
LOOKUP_AFTER = timedelta(seconds=10)
TOTAL = Money(4_250, "GBP")

# The fields of an envelope beside its command.
PARTS = {field.name for field in fields_of(Envelope)} - {"command"}

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Source:
    """The fields of an event that an envelope uses."""

    key: str
    request_hash: bytes = b""
    cause: str = ""


def numbered(kind: int, number: int = 1) -> UUID:
    return UUID(int=kind << 64 | number)


ORDER, PAYMENT, OPERATION = numbered(1), numbered(2), numbered(3)


def outcome_events(decided: Decided) -> list[object]:
    """Returns the decision's domain events except changes of status (test_status_changes.py)."""
    return [event for event in decided.events if not isinstance(event, PaymentStatusChanged)]


class OrderStatus(StrEnum):
    """The contract's statuses of an order, and that of a value that the contract lacks."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    FAILED = "failed"
    UNKNOWN = "unknown"


def order(**changes: Any) -> Order:
    return replace(
        Order(id=ORDER, version=1, attempt=1, status=OrderStatus.PENDING, total=TOTAL), **changes
    )


def operation(outcome: Outcome = Outcome.REQUESTED, **changes: Any) -> Operation:
    """Returns a requested operation; a settled one is settled at noon."""
    settled = outcome in (Outcome.SUCCEEDED, Outcome.FAILED)
    sample = Operation(
        id=OPERATION,
        kind=Kind.CHARGE,
        amount=TOTAL.minor,
        outcome=outcome,
        requested_by="create:1",
        request_time=NOON,
        next_lookup_time=None if settled else NOON + LOOKUP_AFTER,
        reference="ref-1" if outcome is Outcome.SUCCEEDED else None,
        failure_code="insufficient_funds" if outcome is Outcome.FAILED else None,
        settle_time=NOON if settled else None,
    )
    return replace(sample, **changes)


def payment(status: Status = Status.PENDING, **changes: Any) -> Payment:
    """Returns a payment in that status, with the operations that led to it."""
    free = status is Status.NOT_REQUIRED
    amount = 0 if free else TOTAL.minor
    set_aside = status in CHARGED | {Status.AUTHORIZED, Status.VOIDED}
    declined = status in (Status.DECLINED, Status.FAILED)
    outcome = Outcome.SUCCEEDED if set_aside else Outcome.FAILED if declined else Outcome.REQUESTED
    refunded = {Status.REFUNDED: amount, Status.PARTIALLY_REFUNDED: 1}.get(status, 0)
    refunds = (refund_operation(refunded, Outcome.SUCCEEDED, cause_id="b0"),) if refunded else ()
    kind = Kind.AUTHORIZE if status in (Status.AUTHORIZED, Status.VOIDED) else Kind.CHARGE
    sample = Payment(
        id=PAYMENT,
        order_id=ORDER,
        attempt=1,
        try_number=1,
        order_version=1,
        status=status,
        currency=TOTAL.currency,
        amount=amount,
        processor="" if free else "sandbox",
        version=1 if free or status is Status.PENDING else 2,
        create_time=NOON,
        update_time=NOON,
        operations=() if free else (operation(outcome, kind=kind), *refunds),
    )
    return replace(sample, **changes)


def account(*payments: Payment, **changes: Any) -> Account:
    return Account(order(**changes), payments)


def declined(number: int, code: str = "insufficient_funds") -> Payment:
    """Returns an earlier declined payment."""
    failed = operation(
        Outcome.FAILED,
        id=numbered(3, 100 + number),
        requested_by=f"create:{100 + number}",
        failure_code=code,
    )
    return payment(
        Status.DECLINED,
        id=numbered(2, 100 + number),
        try_number=number,
        operations=(failed,),
    )


def envelope(kind: type[C], **fields: Any) -> Envelope[C]:
    """Returns a command of this kind in an envelope. `fields` are fields of either."""
    parts: dict[str, Any] = {"request_hash": b"", "target": ORDER, "actor": "payment"}
    parts |= {name: value for name, value in fields.items() if name in PARTS}
    command = kind(**{name: value for name, value in fields.items() if name not in PARTS})
    return Envelope(**parts, command=command)


def changed(old: Envelope[C], **fields: Any) -> Envelope[C]:
    """Returns the envelope with these fields of its command changed."""
    command: Any = old.command
    return old.with_command(replace(command, **fields))


def adding(kind: type[C], operation_id: UUID, **fields: Any) -> Envelope[C]:
    """Returns a command that adds this operation, in the envelope of its request."""
    new = NewOperation(id=operation_id, requested_by=fields["key"], lookup_after=LOOKUP_AFTER)
    return envelope(kind, operation=new, **fields)


def apply_order(number: int = 1, **changes: Any) -> Envelope[ApplyOrderVersion]:
    """Returns the order service's event of that number."""
    return envelope(
        ApplyOrderVersion,
        key=f"payment-ORDERS:e{number}",
        actor="order",
        cause=f"e{number}",
        order=order(**changes),
        payment_id=numbered(2, 50 + number),
    )


def create(number: int = 1, **changes: Any) -> Envelope[CreatePayment]:
    """Returns a buyer's request of that number; each proposes its own ids."""
    usual: dict[str, Any] = {
        "key": f"create:{number}",
        "cause": f"r{number}",
        "expected": None,
        "manual_capture": False,
        "processor": "sandbox",
        "payment_id": numbered(2, number),
        "operation_id": numbered(3, number),
    }
    return adding(CreatePayment, **(usual | changes))


def capture(number: int = 1, **changes: Any) -> Envelope[CapturePayment]:
    usual: dict[str, Any] = {
        "key": f"capture:{number}",
        "cause": f"c{number}",
        "payment_id": PAYMENT,
        "operation_id": numbered(3, 200 + number),
        "expected_version": None,
    }
    return adding(CapturePayment, **(usual | changes))


def void(number: int = 1, **changes: Any) -> Envelope[VoidPayment]:
    usual: dict[str, Any] = {
        "key": f"void:{number}",
        "cause": f"v{number}",
        "payment_id": PAYMENT,
        "operation_id": numbered(3, 300 + number),
        "expected_version": None,
    }
    return adding(VoidPayment, **(usual | changes))


def refund(
    number: int = 1,
    minor: int | None = None,
    **changes: Any,
) -> Envelope[RefundPayment]:
    usual: dict[str, Any] = {
        "key": f"refund:{number}",
        "cause": f"b{number}",
        "payment_id": PAYMENT,
        "operation_id": numbered(3, 400 + number),
        "amount": None if minor is None else Money(minor, TOTAL.currency),
        "expected_version": None,
    }
    return adding(RefundPayment, **(usual | changes))


def returned(number: int = 1, minor: int = 1_000, **changes: Any) -> Envelope[RefundReturn]:
    """Returns the event that units of the return of that number were accepted."""
    usual: dict[str, Any] = {
        "key": f"payment-ORDERS:r{number}",
        "actor": "order",
        "cause": f"r{number}",
        "return_id": f"return-{number}",
        "attempt": 1,
        "amount": Money(minor, TOTAL.currency),
    }
    return envelope(RefundReturn, **(usual | changes))


def refund_operation(
    minor: int,
    outcome: Outcome = Outcome.REQUESTED,
    cause: Cause = Cause.REQUEST,
    cause_id: str = "b1",
    kind: Kind = Kind.REFUND,
) -> Operation:
    """Returns a void or refund of this amount."""
    name = f"{kind}-{cause}-{cause_id}"
    reference = f"ref-{name}" if outcome is Outcome.SUCCEEDED else None
    refund = operation(
        outcome,
        id=uuid5(PAYMENT, name),
        kind=kind,
        amount=minor,
        requested_by=name,
        reference=reference,
    )
    return replace(refund, cause=cause, cause_id=cause_id)


def settle(
    answer: Answer,
    operation_id: UUID = OPERATION,
    key: str = "result",
    **changes: Any,
) -> Envelope[Settle]:
    usual: dict[str, Any] = {
        "actor": "sandbox",
        "cause": "w1",
        "payment_id": numbered(2, 90),
        "payload_sha256": answer_hash(operation_id, answer),
    }
    fields = usual | changes
    return envelope(Settle, key=key, operation_id=operation_id, answer=answer, **fields)


def resolve(
    contradiction_id: UUID,
    note: str = "refunded at the processor",
) -> Envelope[ResolveContradiction]:
    return envelope(
        ResolveContradiction,
        key="resolve",
        cause="r9",
        note=note,
        payment_id=PAYMENT,
        contradiction_id=contradiction_id,
        expected_version=None,
    )


def record_unknown(operation_id: UUID = OPERATION) -> Envelope[RecordUnknownOutcome]:
    return envelope(
        RecordUnknownOutcome,
        key="unknown",
        cause="r1",
        operation_id=operation_id,
    )


def retry_lookup(number: int = 1, operation_id: UUID = OPERATION) -> Envelope[RetryLookup]:
    return envelope(
        RetryLookup,
        key=f"lookup:{number}",
        cause="o1",
        operation_id=operation_id,
        lookup_number=number,
        lookup_after=2 * LOOKUP_AFTER,
    )


def own(answer: Answer, operation_id: UUID) -> Answer:
    """A processor gives each operation its own id."""
    return (
        answer if isinstance(answer, Declined) else replace(answer, reference=f"ref-{operation_id}")
    )
