"""A set of payment's commands equals its commands one by one, on PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings

from chassis.values.envelope import Envelope
from chassis.values.money import Money
from payment_svc import tables
from payment_svc.decisions.deciders import decide
from payment_svc.model.answers import AUTHORIZATION_EXPIRED, Answer, Declined, Pending, Succeeded
from payment_svc.model.commands import CreatePayment
from payment_svc.model.records import Operation, Order, Payment
from payment_svc.store.workspace import lock_accounts, save_accounts
from payment_svc.wire.events_out import outgoing_event
from tests.property.set_histories import (
    Commands,
    History,
    Records,
    Step,
    histories,
    openings,
    steps,
    write_history,
)
from tests.property.sets import BothWays, RecordKind, both_ways, examples
from tests.unit.payment.samples import (
    OrderStatus,
    apply_order,
    capture,
    changed,
    create,
    numbered,
    record_unknown,
    refund,
    resolve,
    retry_lookup,
    returned,
    settle,
    void,
)

ORDERS = [numbered(1, 1), numbered(1, 2)]
STATUSES = [
    OrderStatus.PENDING,
    OrderStatus.PENDING,
    OrderStatus.PENDING,
    OrderStatus.CONFIRMED,
    OrderStatus.CANCELLED,
    OrderStatus.FAILED,
]
OPENING = ["create", "create", "apply"]
KINDS = [
    "apply",
    "apply",
    "create",
    "create",
    "capture",
    "void",
    "refund",
    "refund",
    "return",
    "return",
    "settle",
    "settle",
    "settle",
    "settle",
    "settle",
    "unknown",
    "retry",
    "resolve",
]


@pytest.fixture
async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
    async with both_ways(migrated_database, "payment_svc", tables, outgoing_event) as both:
        yield both


def order_at(step: Step, status: OrderStatus, minor: int) -> Order:
    """Returns one of two orders at one of six versions; a second attempt has the last two."""
    version = step.second + 1
    return Order(
        id=ORDERS[step.first % 2],
        version=version,
        attempt=1 + version // 5,
        status=status,
        total=Money(minor, "GBP"),
    )


def of_order(step: Step, number: int) -> Envelope[Any]:
    """Returns a command about an order: an event of it, a request to charge it, a return."""
    order_id = ORDERS[step.first % 2]
    if step.kind == "apply":
        known = order_at(step, STATUSES[step.first], (4_250, 4_250, 4_000, 0)[number % 4])
        event = replace(apply_order(number), target=order_id)
        return changed(event, order=known, payment_id=numbered(2, number))
    if step.kind == "return":
        fields: dict[str, Any] = {
            "target": order_id,
            "key": f"return:{number}",
            "attempt": 1 + step.second // 5,
        }
        return returned(1 + step.second % 3, (1_000, 5_000)[step.first % 2], **fields)
    known_order = order_at(step, OrderStatus.PENDING, 4_250) if step.first < 4 else None
    request = create(number, order=known_order, manual_capture=step.second % 2 == 1)
    return replace(request, target=order_id)


def of_payment(step: Step, number: int, payment: Payment) -> Envelope[Any]:
    """Returns a request about a payment; one in three expects the version that was read."""
    fields: dict[str, Any] = {
        "target": payment.order_id,
        "payment_id": payment.id,
        "operation_id": numbered(3, number),
        "expected_version": payment.version if step.second > 3 else None,
    }
    if step.kind == "capture":
        return capture(number, **fields)
    if step.kind == "void":
        return void(number, **fields)
    amount = (None, 100, 1_000, payment.refundable)[step.second % 4] or None
    retried = f"return-{1 + step.first % 3}" if step.second == 5 else None
    return refund(number, amount, return_id=retried, **fields)


def answer(step: Step, operation: Operation) -> Answer:
    """Returns a processor's answer to an operation. Each operation has references of its own."""
    reference = f"ref-{operation.id}"
    return (
        Succeeded(reference),
        Succeeded(reference),
        Pending(reference),
        Declined("insufficient_funds"),
        Declined(AUTHORIZATION_EXPIRED) if step.first % 2 else Declined("stolen", final=True),
        Succeeded(f"other-{reference}"),
    )[step.second]


def of_operation(step: Step, number: int, payment: Payment, operation: Operation) -> Envelope[Any]:
    """Returns a command about an operation: an answer by a call or a webhook, or none."""
    if step.kind == "unknown":
        envelope: Envelope[Any] = record_unknown(operation.id)
    elif step.kind == "retry":
        envelope = retry_lookup(1 + step.second % 3, operation.id)
    else:
        envelope = settle(answer(step, operation), operation.id)
        envelope = changed(envelope, payment_id=numbered(2, number), reused=step.first == 5)
    key = f"{step.kind}:{number}"
    return replace(envelope, target=payment.order_id, key=key, cause=key)


def make(step: Step, number: int, records: Records) -> Envelope[Any] | None:
    """Returns the command of a step."""
    if step.kind in ("apply", "create", "return"):
        return of_order(step, number)
    payments = [p for id in sorted(records) for p in records[id].payments]
    if step.kind in ("capture", "void", "refund"):
        payment = step.choose(payments)
        return of_payment(step, number, payment) if payment else None
    operations = [(p, o) for p in payments for o in p.operations]
    if step.kind == "resolve":
        found = step.choose([(p, c) for p, o in operations for c in o.contradictions])
        if found is None:
            return None
        payment, contradiction = found
        request = replace(resolve(contradiction.id), target=payment.order_id, key=f"r:{number}")
        return changed(request, payment_id=payment.id)
    # the latest operations first: the others are mostly settled
    chosen = step.choose(operations[::-1])
    return of_operation(step, number, *chosen) if chosen else None


def renew(envelope: Envelope[Any], number: int) -> Envelope[Any]:
    """Returns the repeat: a payment and its operation are proposed with new ids."""
    if not isinstance(envelope.command, CreatePayment):
        return envelope
    new = replace(envelope.command.operation, id=numbered(3, number))
    return changed(envelope, payment_id=numbered(2, number), operation=new)


def id_of(account: Any) -> UUID:
    """Returns the id of the account's order."""
    found: UUID = account.order.id
    return found


ACCOUNTS = Commands(
    kind=RecordKind(load=lock_accounts, decide=decide, save=save_accounts),
    make=make,
    id_of=id_of,
    renew=renew,
)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(openings(OPENING), steps(KINDS)))
async def test_a_set_of_accounts_equals_its_commands(both: BothWays, history: History) -> None:
    """Orders' events, charges, captures, voids, refunds, returns, answers, lost answers, lookups
    and contradictions, several of one account in a set: outcomes, rows and events are those of the
    same commands one by one.
    """
    await write_history(both, ACCOUNTS, history)
