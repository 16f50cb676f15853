"""Yesterday's payments survive the migrations, and their money can go back."""

from uuid import UUID

from sqlalchemy import text

from chassis.database import connect
from chassis.money import Money
from payment_svc import store
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Cause, Kind, OrderStatus, Outcome, Status
from payment_svc.model import Account, Succeeded
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Ledger
from tests.support import FreshDatabase
from tests.unit.payment.samples import LATER, OPERATION, ORDER, PAYMENT, note
from tests.yesterday import rows, upgraded

DEAD, KEPT, HELD = UUID(int=20), UUID(int=21), UUID(int=22)
BEFORE = (
    f"insert into accounts values ('{ORDER}', 2, 1, 'confirmed', 4250, 'GBP')",
    (
        f"insert into payments values ('{PAYMENT}', '{ORDER}', 1, 1, 'captured', 'GBP', 4250, 4250,"
        " 4250, 0, 'sandbox', null, 2, now(), now())"
    ),
    f"""
    insert into operations values
    ('{OPERATION}', '{PAYMENT}', 'charge', 4250, 'succeeded', 'create:1', now(), null, 0, 'sbx_{OPERATION.hex}', null, now())
    """,
    f"""
    insert into history values
    ('{PAYMENT}', 1, null, 'pending', '{OPERATION}', 'requested', 'PAYMENT_REQUESTED', 'payment', 'r1', now())
    """,
    f"""
    insert into sandbox.operations (key, kind, state, token, amount, final)
    values ('{OPERATION}', 'charge', 'succeeded', 'tok_ok', 4250, false)
    """,
)
# An order that died before there were refunds: its first attempt had set money aside, its second
# was captured.
FOR_NOBODY = (
    f"insert into accounts values ('{DEAD}', 5, 2, 'failed', 900, 'GBP')",
    f"""
    insert into payments values
    ('{HELD}', '{DEAD}', 1, 1, 'authorized', 'GBP', 900, 900, 0, 0, 'sandbox', null, 2, now(), now()),
    ('{KEPT}', '{DEAD}', 2, 1, 'captured', 'GBP', 900, 900, 900, 0, 'sandbox', null, 2, now(), now())
    """,
    f"""
    insert into operations values
    ('{HELD}', '{HELD}', 'authorize', 900, 'succeeded', 'create:21', now(), null, 0, 'sbx_{HELD.hex}', null, now()),
    ('{KEPT}', '{KEPT}', 'charge', 900, 'succeeded', 'create:22', now(), null, 0, 'sbx_{KEPT.hex}', null, now())
    """,
)
# What a replica of yesterday's writes while today's migration is done already.
MEANWHILE = (
    f"""
    insert into payments (id, order_id, attempt, try_number, status, currency, amount, authorized, captured, refunded,
        processor, version, create_time, update_time)
    values ('{UUID(int=9)}', '{ORDER}', 2, 1, 'pending', 'GBP', 1, 0, 0, 0, 'sandbox', 1, now(), now())
    """,
    f"""
    insert into operations (id, payment_id, kind, amount, outcome, requested_by, request_time, ask_time, asks)
    values ('{UUID(int=9)}', '{UUID(int=9)}', 'charge', 1, 'requested', 'create:9', now(), now(), 0)
    """,
)


def prepared(url: str) -> None:
    """A database with yesterday's rows, brought up to date while a replica of yesterday's still
    writes.
    """
    with (
        upgraded(url, "payment_svc", rows(*BEFORE, *FOR_NOBODY)) as engine,
        engine.begin() as connection,
    ):
        rows(*MEANWHILE)(connection)


async def test_yesterdays_money_can_go_back(fresh_database: FreshDatabase) -> None:
    """A payment captured before there were refunds is as it was; its order dies, and the refund
    is stored, and done by the sandbox.
    """
    url = fresh_database()
    prepared(url)
    engine = connect(url)
    try:
        async with engine.begin() as connection:
            known = await store.find_account(connection, ORDER)
            assert known
            assert [(p.status, p.captured, p.refund_pending) for p in known.payments] == [
                (Status.PENDING, 0, 0),
                (Status.CAPTURED, 4_250, 0),
            ]
            before = Account(known.order, tuple(p for p in known.payments if p.id == PAYMENT))
            dead = decide(before, note(3, version=3, status=OrderStatus.CANCELLED), LATER)
            await store.save_accounts(
                connection, {ORDER: before}, {ORDER: dead.record}, dead.history[:0]
            )
        [asked] = [o for o in dead.record.payments[0].operations if o.kind is Kind.REFUND]
        assert (asked.amount, asked.outcome) == (4_250, Outcome.REQUESTED)
        assert dead.record.payments[0].charge
        answer = await Sandbox(Ledger(engine), bytes(32)).refund(
            asked.id, dead.record.payments[0].charge, asked.amount
        )
        assert isinstance(answer, Succeeded)
    finally:
        await engine.dispose()


async def test_what_yesterday_kept_for_a_dead_order_goes_back(
    fresh_database: FreshDatabase,
) -> None:
    """No event tells of it again: the migration asks for it, once, due when yesterday's replicas
    are gone; the next news adds nothing.
    """
    url = fresh_database()
    prepared(url)
    engine = connect(url)
    try:
        async with engine.connect() as connection:
            found = await store.find_account(connection, DEAD)
            told = (
                await connection.execute(
                    text(
                        f"select version, reason from history where payment_id in ('{HELD}',"
                        f" '{KEPT}')"
                    )
                )
            ).all()
    finally:
        await engine.dispose()
    assert found
    assert {(p.id, p.refund_pending, p.version) for p in found.payments} == {
        (HELD, 0, 3),
        (KEPT, 900, 3),
    }
    asked = [
        (o.kind, o.amount, o.outcome, o.cause_id)
        for p in found.payments
        for o in p.operations
        if o.cause is Cause.ORDER
    ]
    assert asked == [
        (Kind.REFUND, 900, Outcome.REQUESTED, "version:5"),
        (Kind.VOID, 900, Outcome.REQUESTED, "version:5"),
    ]
    assert all(
        o.ask_time > o.request_time for p in found.payments for o in p.operations if o.ask_time
    )
    assert sorted(tuple(row) for row in told) == [(3, "REFUND_REQUESTED"), (3, "VOID_REQUESTED")]
    again = note(
        6, id=DEAD, version=6, attempt=2, status=OrderStatus.FAILED, total=Money(900, "GBP")
    )
    assert [p.operations for p in decide(found, again, LATER).record.payments] == [
        p.operations for p in found.payments
    ]
