"""Runs a service's Alembic migrations, one process at a time; holds the DDL of shared tables.

A migration states its own DDL and never reads tables.py: a change there must not change a released
migration. tests/integration/test_migrations.py compares the schema of all migrations with the
schema that tables.py declares.
"""

import importlib
from pathlib import Path

from alembic import command, context, op
from alembic.config import Config
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

LOCK = 0x6D696772  # "migr": the advisory lock that a running migration holds

SHARED_TABLES_V1 = """
CREATE TYPE failed_event_state AS ENUM ('deferred', 'failed', 'replayed', 'discarded');

CREATE TABLE idempotency_keys (
    key text CONSTRAINT idempotency_keys_pkey PRIMARY KEY,
    request_hash bytea NOT NULL,
    target uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_actor text,
    note text
);
CREATE INDEX idempotency_keys_create_time ON idempotency_keys (create_time);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    shard smallint NOT NULL CONSTRAINT outbox_shard CHECK (shard BETWEEN 0 AND 15),
    aggregate uuid NOT NULL,
    event_id uuid NOT NULL,
    subject text NOT NULL,
    type text NOT NULL,
    payload bytea NOT NULL,
    traceparent text,
    stream_seq bigint,
    sequence bigint NOT NULL,
    correlation_id uuid,
    causation_id text,
    refusal text,
    CONSTRAINT outbox_pkey PRIMARY KEY (id, create_time)
) PARTITION BY RANGE (create_time);
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;
CREATE INDEX outbox_aggregate ON outbox (aggregate);
CREATE INDEX outbox_published ON outbox (stream_seq) WHERE stream_seq IS NOT NULL;
CREATE INDEX outbox_refused ON outbox (id) WHERE refusal IS NOT NULL;
CREATE INDEX outbox_waiting ON outbox (id, shard) WHERE stream_seq IS NULL;

CREATE TABLE event_sequences (
    aggregate uuid CONSTRAINT event_sequences_pkey PRIMARY KEY,
    sequence bigint NOT NULL
);

CREATE TABLE stream_positions (
    shard smallint CONSTRAINT stream_positions_pkey PRIMARY KEY,
    create_time timestamptz NOT NULL,
    first_seq bigint NOT NULL,
    deleted bigint NOT NULL,
    seq bigint NOT NULL,
    message_seq bigint NOT NULL,
    message_time timestamptz
);

CREATE TABLE failed_events (
    consumer text,
    event_id uuid,
    digest bytea,
    state failed_event_state NOT NULL,
    stream text NOT NULL,
    stream_seq bigint NOT NULL,
    subject text NOT NULL,
    type text NOT NULL,
    aggregate text NOT NULL,
    payload bytea NOT NULL,
    traceparent text,
    event_time timestamptz NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    first_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    waits_for uuid,
    next_try_time timestamptz,
    CONSTRAINT failed_events_pkey PRIMARY KEY (consumer, event_id, digest),
    CONSTRAINT failed_events_parked CHECK ((state = 'deferred') = (next_try_time IS NOT NULL))
);
CREATE INDEX failed_events_due ON failed_events (next_try_time) WHERE state = 'deferred';
CREATE INDEX failed_events_fewest_tries ON failed_events (attempts, next_try_time)
    WHERE state = 'deferred';
CREATE INDEX failed_events_open ON failed_events (consumer, state)
    WHERE state IN ('deferred', 'failed');
CREATE INDEX failed_events_waits_for ON failed_events (waits_for) WHERE state = 'deferred';
"""


def create_shared_tables_v1() -> None:
    """Creates the tables of chassis.write.tables, for the initial migration of each service.

    Released migrations never change, and this function is part of one. A later change of a shared
    table is a new function here; a new migration of each service calls it.
    """
    op.execute(SHARED_TABLES_V1)


def migrate(url: str, service: str) -> None:
    """Upgrades the database at `url` to the newest revision of `service`, a package: "order_svc".

    Concurrent calls wait for each other: the first one upgrades, the others find nothing to do. The
    replicas of the release before still serve meanwhile: a migration adds, and a later release
    removes. docs/operations.md lists the exceptions.
    """
    package = importlib.import_module(f"{service}.migrations")
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(package.__path__)))))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()  # the session holds the lock, also after this transaction
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def run() -> None:
    """Runs the revisions for a service's migrations/env.py, over the connection of `migrate`.

    Each revision has a transaction of its own.
    """
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
