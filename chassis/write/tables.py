"""The tables that every service has, and set-based SQL: arrays as parameters, one statement for a
set of any size.

Tables are declared here and join each service's metadata. chassis.write.migration has their frozen
DDL for migrations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Enum,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    TableValuedAlias,
    Text,
    Update,
    Uuid,
    any_,
    bindparam,
    column,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.naming import conv

SHARDS = 16
EVENT_SEQUENCES = "event_sequences"


class FailedState(StrEnum):
    """The state of a failed event."""

    # parked and tried again: its time is up -> failed, it succeeds -> the row is deleted
    DEFERRED = "deferred"
    FAILED = "failed"  # no automatic try -> replayed, discarded
    REPLAYED = "replayed"  # has had its effect in a replay
    DISCARDED = "discarded"  # an operator has decided against it


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """The column in which a service stores the version of another service's record: of an order, or
    (with the column of its id) of a fulfilment. Events up to it are skipped.

    `withdraw_version` is the column with the version at which the fulfilment withdrew its shipment:
    shipments of versions up to it are skipped.
    """

    version: Column[int]
    order_id: Column[UUID]
    fulfillment_id: Column[UUID] | None = None
    withdraw_version: Column[Any] | None = None


def new_metadata() -> MetaData:
    """Returns a service's metadata: every constraint and index has a stable name, for migrations
    and for people.
    """
    return MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )


def enum(of: type[StrEnum], name: str, metadata: MetaData) -> Enum:
    """Returns the PostgreSQL type of one of the project's enums, with the enum's values."""
    return Enum(
        of,
        name=name,
        metadata=metadata,
        values_callable=lambda members: [member.value for member in members],
    )


def idempotency_keys(metadata: MetaData) -> Table:
    """Returns the table of idempotency keys: each is stored in the transaction of its effect.

    The row of an operator's request also has its claimed actor and its note.
    """
    table = Table(
        "idempotency_keys",
        metadata,
        Column("key", Text, primary_key=True),
        Column("request_hash", LargeBinary, nullable=False),
        Column("target", Uuid, nullable=False),
        Column(
            "create_time",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.clock_timestamp(),
        ),
        Column("claimed_actor", Text),
        Column("note", Text),
    )
    Index("idempotency_keys_create_time", table.c.create_time)
    return table


def outbox(metadata: MetaData) -> Table:
    """Returns the table of events that wait to be published (no stream_seq yet) or were published.
    Within an aggregate, the order of ids is the order of events.

    aggregate       the versioned record that the event concerns
    sequence        numbers the events of one aggregate, from 1, without a gap; counted in the table
                    event_sequences
    correlation_id  the order that the event concerns, if it concerns one
    causation_id    the request or event that led to it
    refusal         why the stream refuses the event; its aggregate's later events wait behind it

    One partition for each day of creation (UTC), made and dropped by chassis.write.partitions. Rows
    of a day without a partition go to the default one.
    """
    table = Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column(
            "create_time",
            DateTime(timezone=True),
            primary_key=True,
            server_default=func.clock_timestamp(),
        ),
        Column(
            "shard",
            SmallInteger,
            CheckConstraint(f"shard between 0 and {SHARDS - 1}", name=conv("outbox_shard")),
            nullable=False,
        ),
        Column("aggregate", Uuid, nullable=False),
        Column("event_id", Uuid, nullable=False),
        Column("subject", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("traceparent", Text),
        Column("stream_seq", BigInteger),
        Column("sequence", BigInteger, nullable=False),
        Column("correlation_id", Uuid),
        Column("causation_id", Text),
        Column("refusal", Text),
        postgresql_partition_by="RANGE (create_time)",
    )
    # In the order of reading: with any other index, a long backlog would be sorted again or
    # published rows would be read.
    Index(
        "outbox_waiting", table.c.id, table.c.shard, postgresql_where=table.c.stream_seq.is_(None)
    )
    Index("outbox_published", table.c.stream_seq, postgresql_where=table.c.stream_seq.is_not(None))
    Index("outbox_aggregate", table.c.aggregate)
    Index("outbox_refused", table.c.id, postgresql_where=table.c.refusal.is_not(None))
    # It outlives the outbox's rows, because a record's events are numbered for ever.
    Table(
        EVENT_SEQUENCES,
        metadata,
        Column("aggregate", Uuid, primary_key=True),
        Column("sequence", BigInteger, nullable=False),
    )
    create = "CREATE TABLE outbox_default PARTITION OF outbox DEFAULT"
    partition = DDL(create)  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed it
    event.listen(table, "after_create", partition)
    return table


def stream_positions(metadata: MetaData) -> Table:
    """Returns the table with the position, for each shard of the outbox, up to which its marks were
    compared with the stream: chassis.publish.stream_rebuild.Position.
    """
    return Table(
        "stream_positions",
        metadata,
        Column("shard", SmallInteger, primary_key=True, autoincrement=False),
        Column("create_time", DateTime(timezone=True), nullable=False),
        Column("first_seq", BigInteger, nullable=False),
        Column("deleted", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("message_seq", BigInteger, nullable=False),
        Column("message_time", DateTime(timezone=True)),
    )


def failed_events(metadata: MetaData) -> Table:
    """Returns the table of events that a consumer could not handle: for the time being, or until an
    operator decides.

    A row has all that a replay needs. `digest` is `digest_of` in
    chassis.consume.failed_event_records: two bodies under one event id are two rows. `first_time`
    is when the consumer first stored the event. A deferred event is parked here: it has a
    `next_try_time`, and `waits_for` is the record of this service whose next change may help it,
    where a write has named one.
    """
    table = Table(
        "failed_events",
        metadata,
        Column("consumer", Text, primary_key=True),
        Column("event_id", Uuid, primary_key=True),
        Column("digest", LargeBinary, primary_key=True),
        Column("state", enum(FailedState, "failed_event_state", metadata), nullable=False),
        Column("stream", Text, nullable=False),
        Column("stream_seq", BigInteger, nullable=False),
        Column("subject", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("aggregate", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("traceparent", Text),
        Column("event_time", DateTime(timezone=True), nullable=False),
        Column("reason", Text, nullable=False),
        Column("error", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column(
            "first_time",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.clock_timestamp(),
        ),
        Column(
            "update_time",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.clock_timestamp(),
        ),
        Column("waits_for", Uuid),
        Column("next_try_time", DateTime(timezone=True)),
        CheckConstraint("(state = 'deferred') = (next_try_time is not null)", name="parked"),
    )
    _index_failed_events(table)
    return table


def _index_failed_events(table: Table) -> None:
    Index(
        "failed_events_open",
        table.c.consumer,
        table.c.state,
        postgresql_where=table.c.state.in_(["deferred", "failed"]),
    )
    parked = table.c.state == "deferred"
    Index("failed_events_due", table.c.next_try_time, postgresql_where=parked)
    Index(
        "failed_events_fewest_tries",
        table.c.attempts,
        table.c.next_try_time,
        postgresql_where=parked,
    )
    Index("failed_events_waits_for", table.c.waits_for, postgresql_where=parked)


def unnest_rows(*columns: Column[Any]) -> TableValuedAlias:
    """Returns rows that are parameters, as a relation: unnest(a::uuid[], b::text[], ...).
    Statements over it are built once; see chassis.write.rows.
    """
    rows = func.unnest(*(bindparam(f"given_{c.name}", type_=ARRAY(c.type)) for c in columns))
    typed = (column(c.name, c.type) for c in columns)
    return rows.table_valued(*typed, name="given").render_derived()


def is_any_of(of: Column[Any]) -> ColumnElement[bool]:
    """Returns the condition: of = any(array)"""
    return of == any_(bindparam(f"given_{of.name}", type_=ARRAY(of.type)))


def conditions(
    *filters: tuple[ColumnElement[Any], Callable[[Any, Any], ColumnElement[bool]], Any],
) -> list[ColumnElement[bool]]:
    """Returns the conditions of a list: a column, a comparison and a value each. A value that is
    None or empty filters nothing.
    """
    return [compare(of, value) for of, compare, value in filters if value]


def insert_rows(*columns: Column[Any]) -> Insert:
    """Returns the statement: insert into ... select from rows that are parameters, in their
    order.
    """
    return insert(columns[0].table).from_select(list(columns), select(*unnest_rows(*columns).c))


def upsert_rows(table: Table) -> Insert:
    """Returns the statement that inserts rows that are parameters. A row whose primary key exists
    replaces the stored one.
    """
    new = insert_rows(*table.c)
    values = {each.name: new.excluded[each.name] for each in table.c if not each.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)


def update_rows(*columns: Column[Any]) -> Update:
    """Returns the statement: update ... from rows that are parameters, each with the primary key
    of the row that it changes.
    """
    given = unnest_rows(*columns).c
    keys = [each for each in columns if each.primary_key]
    values = {each.name: given[each.name] for each in columns if not each.primary_key}
    return update(columns[0].table).values(values).where(*(key == given[key.name] for key in keys))
