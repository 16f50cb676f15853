"""The sample's tables, its SQL, and the conversion of its domain events."""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write import tables
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows
from chassis.write.workspace import Workspace
from tests.sample.events import SampleStatusChanged
from tests.sample.model import CreateOrder, Order, Status, Transition

metadata = MetaData()
idempotency_keys = tables.idempotency_keys(metadata)
outbox = tables.outbox(metadata)
failed_events = tables.failed_events(metadata)
stream_positions = tables.stream_positions(metadata)
status = Enum(
    Status, name="order_status", values_callable=lambda statuses: [s.value for s in statuses]
)

orders = Table(
    "orders",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("reference", Text, nullable=False, unique=True),
    Column("total", BigInteger, CheckConstraint("total >= 0", name="orders_total"), nullable=False),
    Column("status", status, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deadline", DateTime(timezone=True), nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id", name="history_order"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("old", status),
    Column("new", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    UniqueConstraint("order_id", "cause", "new", name="history_once"),
)

stored_versions = (tables.StoredVersion(version=orders.c.version, order_id=orders.c.id),)

ORDER, TRANSITION = RecordRows(Order, orders.c), RecordRows(Transition, history.c)
MUTABLE_COLUMNS = ("id", "status", "version", "deadline")

lock = select(orders).order_by(orders.c.id).with_for_update(key_share=True)
lock_by_id = lock.where(is_any_of(orders.c.id))
lock_by_checkout = lock.where(or_(is_any_of(orders.c.id), is_any_of(orders.c.reference)))
insert_orders = insert_rows(*orders.c)
insert_history = insert_rows(*history.c)
update_orders = update_rows(*(orders.c[name] for name in MUTABLE_COLUMNS))


async def lock_orders(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> Workspace[Order]:
    """Returns the orders of the commands, by id; a new checkout's also by the order that it already
    became.
    """
    parameters = column_arrays(id=[*repeats, *(each.target for each in envelopes)])
    new = {
        each.command.reference: each.target
        for each in envelopes
        if isinstance(each.command, CreateOrder)
    }
    if new:
        parameters |= column_arrays(reference=new)
    rows = await connection.execute(lock_by_checkout if new else lock_by_id, parameters)
    found = [ORDER.record(row) for row in rows]
    return Workspace(
        {o.id: o for o in found}, {new[o.reference]: o.id for o in found if o.reference in new}
    )


async def save_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, Order],
    after: Mapping[UUID, Order],
    transitions: Sequence[Transition],
) -> None:
    """Inserts new records, updates changed ones, adds the history: one statement each."""
    # or two sets may deadlock
    created = sorted(
        (o for id_, o in after.items() if id_ not in before), key=attrgetter("reference")
    )
    if created:
        await connection.execute(insert_orders, ORDER.arrays(created))
    if changed := [o for id_, o in after.items() if id_ in before]:
        await connection.execute(update_orders, ORDER.arrays(changed, MUTABLE_COLUMNS))
    await connection.execute(insert_history, TRANSITION.arrays(transitions))


def event(transition: Transition) -> OutgoingEvent:
    """Returns a domain event as an event."""
    fields: dict[str, Any] = {
        "order_id": str(transition.order_id),
        "version": transition.version,
        "old": transition.old or "",
        "new": transition.new,
    }
    id = transition.order_id
    return OutgoingEvent(aggregate=id, order_id=id, message=SampleStatusChanged(**fields))
