"""Yesterday's payments survive the migrations, and their money can go back."""

from importlib import import_module
from pathlib import Path
from uuid import UUID

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text

from chassis.database import connect
from chassis.migration import migrate
from payment_svc import store
from payment_svc.decisions import decide
from payment_svc.lifecycle import Kind, OrderStatus, Outcome, Status
from payment_svc.model import Account, Succeeded
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Ledger
from tests.support import FreshDatabase
from tests.unit.payment.samples import LATER, OPERATION, ORDER, PAYMENT, note

BEFORE = (
    f"insert into accounts values ('{ORDER}', 2, 1, 'confirmed', 4250, 'GBP')",
    f"insert into payments values ('{PAYMENT}', '{ORDER}', 1, 1, 'captured', 'GBP', 4250, 4250, 4250, 0, 'sandbox', null, 2, now(), now())",
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
    """A database with yesterday's rows, brought up to date while a replica of yesterday's still writes."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    config = Config()
    config.set_main_option("script_location", str(Path(import_module("payment_svc.migrations").__path__[0])))
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            for statement in BEFORE:
                connection.execute(text(statement))
            connection.commit()
        migrate(url, "payment_svc")
        with engine.begin() as connection:
            for statement in MEANWHILE:
                connection.execute(text(statement))
    finally:
        engine.dispose()


async def test_yesterdays_money_can_go_back(fresh_database: FreshDatabase) -> None:
    """A payment captured before there were refunds is as it was; its order dies, and the refund is stored, and done by the sandbox."""
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
            await store.save_accounts(connection, {ORDER: before}, {ORDER: dead.record}, dead.history[:0])
        [asked] = [o for o in dead.record.payments[0].operations if o.kind is Kind.REFUND]
        assert (asked.amount, asked.outcome) == (4_250, Outcome.REQUESTED)
        assert dead.record.payments[0].charge
        answer = await Sandbox(Ledger(engine), bytes(32)).refund(asked.id, dead.record.payments[0].charge, asked.amount)
        assert isinstance(answer, Succeeded)
    finally:
        await engine.dispose()
