"""The database returns the records that were saved, and refuses invalid ones."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.paging import Page
from payment_svc.lifecycle import (
    LIVE,
    REFUND_STATUS,
    Cause,
    Kind,
    Outcome,
    RefundStatus,
    Status,
)
from payment_svc.model.answers import NOTHING_REFUNDABLE
from payment_svc.model.filters import RefundFilter
from payment_svc.model.records import (
    Account,
    Contradiction,
    Operation,
    Payment,
    Refund,
    Transition,
)
from payment_svc.store.accounts import find_account
from payment_svc.store.operations import due_operations, open_contradictions, order_of_operation
from payment_svc.store.payments import find_payment
from payment_svc.store.refunds import list_refunds, open_refunds
from payment_svc.store.workspace import lock_accounts, save_accounts
from payment_svc.wire import responses
from tests.unit.payment.samples import (
    LATER,
    NOON,
    OPERATION,
    ORDER,
    PAYMENT,
    TOTAL,
    account,
    create,
    declined,
    numbered,
    operation,
    payment,
    refund_operation,
)


async def save(
    engine: AsyncEngine, after: Account, before: Account | None = None, *changes: Transition
) -> None:
    async with engine.begin() as connection:
        await save_accounts(connection, {ORDER: before} if before else {}, {ORDER: after}, changes)


@asynccontextmanager
async def rolled_back(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Opens a transaction that is rolled back."""
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()


async def read(engine: AsyncEngine) -> Account | None:
    async with engine.connect() as connection:
        return await find_account(connection, ORDER)


async def test_an_account_is_read_back_as_it_was_saved(engine: AsyncEngine) -> None:
    """Accounts are read in every status, with their earlier tries and all operations, oldest first;
    also by the lock, and by the payment's id.
    """
    transition = Transition(
        payment_id=PAYMENT,
        version=1,
        old=None,
        new=Status.PENDING,
        operation_id=OPERATION,
        outcome=Outcome.REQUESTED,
        reason="PAYMENT_REQUESTED",
        actor="payment",
        cause="r1",
        time=NOON,
    )
    for status in Status:
        saved = account(replace(declined(1), id=numbered(2, 0)), payment(status, try_number=2))
        async with rolled_back(engine) as connection:
            await save_accounts(connection, {}, {ORDER: saved}, [transition])
            assert await find_account(connection, ORDER) == saved
            await read_by_its_parts(connection, saved)


async def test_contradictions_are_read_back_with_their_operation(engine: AsyncEngine) -> None:
    """One operation has two contradictions, the older first, one of them resolved; a resolution
    replaces the earlier row.
    """
    older = Contradiction(
        id=numbered(9, 1),
        outcome=Outcome.FAILED,
        reference="r",
        failure_code="late",
        report_id="evt_1",
        payload_sha256=bytes(32),
        report_time=NOON,
    )
    newer = replace(older, id=numbered(9, 2), payload_sha256=bytes([1] * 32), report_time=LATER)
    settled = operation(Outcome.SUCCEEDED, contradictions=(older, newer))
    before = account(payment(Status.CAPTURED, operations=(settled,)))
    await save(engine, before)
    assert await read(engine) == before
    async with engine.connect() as connection:
        assert await open_contradictions(connection) == 2
    resolved = replace(older, resolve_time=LATER, resolve_note="settled")
    settled = replace(settled, contradictions=(resolved, newer))
    after = account(payment(Status.CAPTURED, operations=(settled,)))
    await save(engine, after, before)
    assert await read(engine) == after
    async with engine.connect() as connection:
        assert await open_contradictions(connection) == 1


async def read_by_its_parts(connection: AsyncConnection, saved: Account) -> None:
    """Returns the same account, read in every other way."""
    assert (await lock_accounts(connection, [create()], [])).before == {ORDER: saved}
    assert await find_payment(connection, PAYMENT) == saved.payments[1]
    assert await find_payment(connection, ORDER) is None
    for operation_id in (o.id for p in saved.payments for o in p.operations):
        assert await order_of_operation(connection, operation_id) == ORDER
    assert await order_of_operation(connection, ORDER) is None


async def test_only_changed_rows_are_written(engine: AsyncEngine) -> None:
    """A settled operation replaces its row, and the order's version replaces an older one; other
    rows stay.
    """
    before = account(payment())
    await save(engine, before)
    done = replace(
        payment(Status.CAPTURED, update_time=LATER),
        operations=(operation(Outcome.SUCCEEDED, settle_time=LATER, request_time=NOON),),
    )
    after = replace(account(done), order=replace(before.order, version=2))
    await save(engine, after, before)
    assert await read(engine) == after


async def test_due_operations_are_open_and_past_their_time(engine: AsyncEngine) -> None:
    """The operation that is due longest comes first; settled ones, and those not yet due, are left
    out.
    """
    async with engine.connect() as connection:
        now = (await connection.execute(text("select clock_timestamp()"))).scalar_one()
    for number, (due, outcome) in enumerate(
        [
            (-1, Outcome.REQUESTED),
            (-2, Outcome.UNKNOWN),
            (60, Outcome.REQUESTED),
            (0, Outcome.SUCCEEDED),
        ],
        start=1,
    ):
        order_id, settled = numbered(1, number), outcome is Outcome.SUCCEEDED
        stored = operation(
            outcome,
            id=numbered(3, number),
            requested_by=f"create:{number}",
            lookups=number,
            next_lookup_time=None if settled else now + timedelta(seconds=due),
        )
        paid = payment(
            Status.CAPTURED if settled else Status.PENDING,
            id=numbered(2, number),
            order_id=order_id,
            operations=(stored,),
        )
        async with engine.begin() as connection:
            await save_accounts(connection, {}, {order_id: replace(account(paid, id=order_id))}, [])
    async with engine.connect() as connection:
        assert await due_operations(connection, 10) == [
            (numbered(1, 2), numbered(3, 2), 2),
            (numbered(1, 1), numbered(3, 1), 1),
        ]
        assert len(await due_operations(connection, 1)) == 1


def later_try(status: Status) -> Payment:
    """A second payment in that status, with operations of its own."""
    later = payment(status, id=numbered(2, 2), try_number=2)
    others = tuple(
        replace(
            each,
            id=numbered(3, 500 + number),
            requested_by=f"later:{number}",
            reference=each.reference and f"later-{number}",
        )
        for number, each in enumerate(later.operations)
    )
    return replace(later, operations=others)


async def test_an_attempt_has_one_payment_that_counts(engine: AsyncEngine) -> None:
    """The partial unique index refuses two payments that count, over every pair of statuses,
    independently of the service's code.
    """
    for first, second in itertools.product(Status, Status):
        both = account(payment(first), later_try(second))
        async with rolled_back(engine) as connection:
            if {first, second} <= LIVE:
                with pytest.raises(IntegrityError, match="payments_one_per_attempt"):
                    await save_accounts(connection, {}, {ORDER: both}, [])
            else:
                await save_accounts(connection, {}, {ORDER: both}, [])
                assert await find_account(connection, ORDER) == both


RULES = [
    ("payments_authorized", "update payments set authorized = amount + 1"),
    ("payments_captured", "update payments set authorized = 0"),
    ("payments_captured", "update payments set captured = authorized + 1"),
    ("payments_refunded", "update payments set refunded = captured + 1"),
    ("payments_refunded", "update payments set refunded = -1"),
    ("payments_refunded", "update payments set refund_pending = -1"),
    ("payments_refunded", "update payments set refunded = captured - 1, refund_pending = 2"),
    ("payments_charged", "update payments set captured = 0"),
    ("payments_charged", "update payments set status = 'authorized'"),
    (
        "payments_authorized_positive",
        "update payments set status = 'authorized', authorized = 0, captured = 0",
    ),
    ("payments_all_refunded", "update payments set status = 'refunded', refunded = 1"),
    ("payments_not_required", "update payments set status = 'not_required', captured = 0"),
    ("payments_decline_code", "update payments set decline_code = 'stolen_card'"),
    ("payments_decline_code", "update payments set status = 'failed', captured = 0"),
    ("payments_version", "update payments set version = 0"),
    ("operations_amount", "update operations set amount = 0"),
    ("operations_amount", "update operations set amount = -1"),
    ("operations_cause", "update operations set cause = 'order', cause_id = 'version:1'"),
    ("operations_cause", "update operations set kind = 'refund'"),
    ("operations_cause", "update operations set kind = 'void', cause = 'order'"),
    ("operations_lookup_while_open", "update operations set outcome = 'unknown'"),
    ("operations_settled", "update operations set settle_time = null"),
    ("operations_failure_code", "update operations set failure_code = 'stolen_card'"),
    ("operations_reference", "update operations set reference = null"),
    ("accounts_total", "update accounts set total = -1"),
    ("history_creation", "update history set version = 2"),
]


async def test_database_refuses_inconsistent_payments(engine: AsyncEngine) -> None:
    """Each rule refuses a captured payment by its own name: a defect of the service cannot store
    inconsistent amounts.
    """
    transition = Transition(
        payment_id=PAYMENT,
        version=1,
        old=None,
        new=Status.CAPTURED,
        operation_id=None,
        outcome=None,
        reason="CAPTURED",
        actor="payment",
        cause="r1",
        time=NOON,
    )
    await save(engine, account(payment(Status.CAPTURED)), None, transition)
    for rule, statement in RULES:
        with pytest.raises(IntegrityError, match=rule):
            async with rolled_back(engine) as connection:
                await connection.execute(text(statement))


async def test_payment_has_one_open_operation_of_one_request(engine: AsyncEngine) -> None:
    """The tables allow one open operation for each payment, one operation for each request, and one
    ledger entry for each operation of a processor.
    """
    authorized = payment(Status.AUTHORIZED, amount=2 * TOTAL.minor)

    def another(outcome: Outcome, number: int, **fields: object) -> Account:
        extra = operation(
            outcome, id=numbered(3, 90 + number), requested_by=f"other:{number}", kind=Kind.CAPTURE
        )
        extra = replace(extra, **fields)  # type: ignore[arg-type]  # any of its fields
        return account(replace(authorized, operations=(*authorized.operations, extra)))

    [one], [other] = another(Outcome.REQUESTED, 1).payments, another(Outcome.REQUESTED, 2).payments
    twice_open = replace(one, operations=(*one.operations, other.operations[-1]))
    for wrong, rule in [
        (account(twice_open), "operations_one_open_charge"),
        (another(Outcome.FAILED, 3, requested_by="create:1"), "operations_requested_by_key"),
        (another(Outcome.SUCCEEDED, 4, kind=Kind.AUTHORIZE), "operations_kind_reference_key"),
    ]:
        with pytest.raises(IntegrityError, match=rule):
            await save(engine, wrong)
    # another kind of operation can have the same name
    void = {"kind": Kind.VOID, "cause": Cause.REQUEST, "cause_id": "v1"}
    await save(engine, another(Outcome.SUCCEEDED, 5, **void))


async def test_open_refunds_are_one_for_each_cause(engine: AsyncEngine) -> None:
    """A void of the same cause can stand beside it. A second refund of a cause is refused,
    independently of the service's code and of the caller.
    """
    captured = payment(Status.CAPTURED)

    def account_with(*more: Operation) -> Account:
        return account(replace(captured, operations=(*captured.operations, *more)))

    order_1 = refund_operation(10, cause=Cause.ORDER, cause_id="version:1")
    three = (
        order_1,
        refund_operation(10, cause=Cause.RETURN, cause_id="version:1"),
        refund_operation(10),
    )
    void = refund_operation(
        1, Outcome.FAILED, cause=Cause.ORDER, cause_id="version:1", kind=Kind.VOID
    )
    nothing = replace(
        refund_operation(0, Outcome.FAILED, cause=Cause.RETURN, cause_id="return-2"),
        failure_code=NOTHING_REFUNDABLE,
    )
    again = replace(order_1, id=numbered(3, 99), requested_by="another")
    with pytest.raises(IntegrityError, match="operations_payment_id_kind_cause_cause_id_key"):
        await save(engine, account_with(*three, again))
    whole = account_with(*three, void, nothing)
    await save(engine, whole)
    known = await read(engine)
    assert known
    assert replace(known.payments[0], operations=()) == replace(whole.payments[0], operations=())
    assert {o.id: o for o in known.payments[0].operations} == {
        o.id: o for o in whole.payments[0].operations
    }


async def test_refunds_are_listed_newest_first_and_open_ones_counted(
    engine: AsyncEngine,
) -> None:
    """Refunds come each once over all pages, also those of the same moment; by order, payment and
    status. A charge is no refund.
    """
    refunded = payment(Status.PARTIALLY_REFUNDED, operations=(operation(Outcome.SUCCEEDED),))
    made = [
        replace(
            refund_operation(1 if number == 5 else 10, outcome, cause_id=f"b{number}"),
            request_time=NOON + timedelta(minutes=number // 2),
        )
        for number, outcome in enumerate(
            [Outcome.UNKNOWN, Outcome.REQUESTED, *[Outcome.FAILED] * 3, Outcome.SUCCEEDED]
        )
    ]
    await save(engine, account(replace(refunded, operations=(*refunded.operations, *made))))
    newest_first = sorted(
        map(refunded.refund, made), key=lambda r: (r.request_time, r.id), reverse=True
    )
    async with engine.connect() as connection:

        async def listed(size: int = 50, **wanted: Any) -> list[Refund]:
            found, after = [], None
            while True:
                rows = await list_refunds(
                    connection,
                    RefundFilter(**wanted),
                    Page(size=size, after=after, filter=0, encode=responses.refund),
                )
                found += rows[:size]
                if len(rows) <= size:
                    return found
                after = (rows[size - 1].request_time, rows[size - 1].id)

        assert (
            await listed()
            == await listed(2)
            == await listed(order_id=ORDER)
            == await listed(payment_id=PAYMENT)
            == newest_first
        )
        assert await listed(order_id=PAYMENT) == await listed(payment_id=ORDER) == []
        for status in RefundStatus:
            assert await listed(statuses=(status,)) == [
                r for r in newest_first if REFUND_STATUS[r.outcome] is status
            ]
        count, age_s = await open_refunds(connection)
        assert count == 2
        assert age_s > 3600


async def test_concurrent_openings_of_an_account_insert_one(engine: AsyncEngine) -> None:
    """The second insert fails instead of becoming an update, and its writer reads again."""
    await save(engine, account())
    with pytest.raises(IntegrityError, match="accounts_pkey"):
        await save(engine, account(payment()))
    assert await read(engine) == account()
