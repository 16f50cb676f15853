"""Migrations: a service's Alembic folder, run to its newest revision by one process at a time; and
the DDL of the chassis's tables, frozen.

A migration never reads today's metadata: what it once did stands in it. A test holds that all of
them together make the metadata.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alembic import command, context, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, make_url, text
from sqlalchemy.pool import NullPool

LOCK = 0x6D696772  # "migr": the advisory lock that one migration at a time holds

# claims, outbox, failed_events as chassis.tables first declared them. What changes later gets a V2,
# and a migration of each service.
V1 = (
    "CREATE TYPE failed_event_state AS ENUM ('deferred', 'failed', 'replayed', 'discarded')",
    """
    CREATE TABLE claims (
        key text CONSTRAINT claims_pkey PRIMARY KEY,
        digest bytea NOT NULL,
        target uuid NOT NULL,
        claim_time timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX claims_claim_time ON claims (claim_time)",
    """
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
        CONSTRAINT outbox_pkey PRIMARY KEY (id, create_time)
    ) PARTITION BY RANGE (create_time)
    """,
    "CREATE TABLE outbox_default PARTITION OF outbox DEFAULT",
    "CREATE INDEX outbox_waiting ON outbox (id, shard) WHERE stream_seq IS NULL",
    "CREATE INDEX outbox_published ON outbox (stream_seq) WHERE stream_seq IS NOT NULL",
    """
    CREATE TABLE failed_events (
        consumer text NOT NULL,
        event_id uuid NOT NULL,
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
        CONSTRAINT failed_events_pkey PRIMARY KEY (consumer, event_id)
    )
    """,
    (
        "CREATE INDEX failed_events_open ON failed_events (consumer, state) WHERE state IN"
        " ('deferred', 'failed')"
    ),
)

# The numbers and causes of events. The events that are there are numbered by their aggregate.
NUMBERED_EVENTS = (
    """
    CREATE TABLE event_sequences (
        aggregate uuid NOT NULL CONSTRAINT event_sequences_pkey PRIMARY KEY,
        sequence bigint NOT NULL
    )
    """,
    """
    ALTER TABLE outbox
        ADD COLUMN sequence bigint,
        ADD COLUMN correlation_id uuid,
        ADD COLUMN causation_id text,
        ADD COLUMN refusal text
    """,
    """
    UPDATE outbox SET sequence = numbered.sequence
    FROM (
        SELECT id, create_time, row_number() OVER (PARTITION BY aggregate ORDER BY id) AS sequence
        FROM outbox
    ) AS numbered
    WHERE outbox.id = numbered.id AND outbox.create_time = numbered.create_time
    """,
    "INSERT INTO event_sequences SELECT aggregate, max(sequence) FROM outbox GROUP BY aggregate",
    "ALTER TABLE outbox ALTER COLUMN sequence SET NOT NULL",
    "CREATE INDEX outbox_refused ON outbox (id) WHERE refusal IS NOT NULL",
)


# What a relay has compared with its stream; events of an aggregate are found by it.
V2 = (
    """
    CREATE TABLE stream_positions (
        shard smallint CONSTRAINT stream_positions_pkey PRIMARY KEY,
        create_time timestamptz NOT NULL,
        first_seq bigint NOT NULL,
        deleted bigint NOT NULL,
        seq bigint NOT NULL,
        message_seq bigint NOT NULL,
        message_time timestamptz
    )
    """,
    "CREATE INDEX outbox_aggregate ON outbox (aggregate)",
)

# failed_events: deferred events are parked there, and the digest belongs to a row's identity.
PARKING = (
    "ALTER TABLE failed_events ADD COLUMN digest bytea",
    """
    UPDATE failed_events SET digest = sha256(
        convert_to(subject, 'UTF8') || decode('00', 'hex')
        || convert_to(type, 'UTF8') || decode('00', 'hex') || payload
    )
    """,
    "ALTER TABLE failed_events ALTER COLUMN digest SET NOT NULL",
    "ALTER TABLE failed_events DROP CONSTRAINT failed_events_pkey",
    """
    ALTER TABLE failed_events
        ADD CONSTRAINT failed_events_pkey PRIMARY KEY (consumer, event_id, digest)
    """,
    "ALTER TABLE failed_events ADD COLUMN waits_for uuid",
    "ALTER TABLE failed_events ADD COLUMN next_try_time timestamptz",
    "UPDATE failed_events SET next_try_time = clock_timestamp() WHERE state = 'deferred'",
    """
    ALTER TABLE failed_events ADD CONSTRAINT failed_events_parked
        CHECK ((state = 'deferred') = (next_try_time IS NOT NULL))
    """,
    "CREATE INDEX failed_events_due ON failed_events (next_try_time) WHERE state = 'deferred'",
    """
    CREATE INDEX failed_events_fewest_tries ON failed_events (attempts, next_try_time)
        WHERE state = 'deferred'
    """,
    "CREATE INDEX failed_events_waits_for ON failed_events (waits_for) WHERE state = 'deferred'",
)


def create_chassis_tables_v1() -> None:
    """For a service's first migration: the tables that every service has."""
    for statement in V1:
        op.execute(statement)


def compare_with_the_stream_v2() -> None:
    """For a service's migration: the table and the index of chassis.rebuild."""
    for statement in V2:
        op.execute(statement)


def number_events() -> None:
    """For one later migration of each service: the outbox stores the number, the order and the
    cause of each event.
    """
    for statement in NUMBERED_EVENTS:
        op.execute(statement)


def park_failed_events() -> None:
    """For one later migration of each service: failed_events holds parked events, and two bodies
    under one event id.
    """
    for statement in PARKING:
        op.execute(statement)


def record_operators() -> None:
    """For one later migration of each service: the claim of an operator's request has its
    claimed actor and its note.
    """
    op.execute("ALTER TABLE claims ADD COLUMN claimed_actor text, ADD COLUMN note text")


def migrate(url: str, service: str) -> None:
    """Brings a database to the newest revision of `service` (a package's name: "order_svc").
    Several at once wait for each other.

    A migration works while the version before it still serves: it adds first, and takes away in a
    later release. docs/operations.md names those that need more.
    """
    package = importlib.import_module(f"{service}.migrations")
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(package.__path__)))))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()  # the lock is the session's, and outlives its transactions
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def run(metadata: MetaData) -> None:
    """What a service's migrations/env.py does: each revision in a transaction of its own, over
    the connection that `migrate` holds.
    """
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


def differences(connection: Connection, metadata: MetaData) -> Sequence[Any]:
    """What a migrated database lacks of the metadata, or has besides; the outbox's partitions
    are not counted.
    """

    def counts(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not (name or "").startswith("outbox_")

    options = {"include_name": counts, "compare_type": True, "compare_server_default": False}
    found: Sequence[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )
    return found
