"""The tables of the warehouse service.

Constraints guarantee its invariants; each index serves a query in store/.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)

from chassis.write import tables as shared
from chassis.write.tables import StoredVersion, enum
from warehouse_svc.lifecycle import EFFECTS, Bucket, MovementKind, Status

metadata = shared.new_metadata()
idempotency_keys = shared.idempotency_keys(metadata)
outbox = shared.outbox(metadata)
failed_events = shared.failed_events(metadata)
stream_positions = shared.stream_positions(metadata)


def effect(kind: MovementKind) -> str:
    """Returns the constraint's branch for this kind: the changes of the balances by a row."""
    if kind is MovementKind.ADJUST:
        return (
            f"when '{kind}' then abs(available) = quantity and (reserved, committed, damaged) = (0,"
            " 0, 0)"
        )
    changes = ", ".join({1: "quantity", 0: "0", -1: "-quantity"}[unit] for unit in EFFECTS[kind])
    return f"when '{kind}' then (available, reserved, committed, damaged, outside) = ({changes})"


stock_levels = Table(
    "stock_levels",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("warehouse_id", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("available", BigInteger, CheckConstraint("available >= 0", "available"), nullable=False),
    Column("reserved", BigInteger, CheckConstraint("reserved >= 0", "reserved"), nullable=False),
    Column("committed", BigInteger, CheckConstraint("committed >= 0", "committed"), nullable=False),
    Column("damaged", BigInteger, CheckConstraint("damaged >= 0", "damaged"), nullable=False),
    Column("version", BigInteger, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    UniqueConstraint("warehouse_id", "sku"),
    CheckConstraint("available >= reserved", "sellable"),
    # Rows change often and stay on their page (heap-only tuples): no column that changes has an
    # index. So update_time has none.
    postgresql_with={"fillfactor": 70},
)
Index(None, stock_levels.c.sku)

# The ledger: rows are only inserted, and a stock level is the sum of its rows.
movements = Table(
    "movements",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("level_id", Uuid, ForeignKey("stock_levels.id"), nullable=False),
    Column("kind", enum(MovementKind, "movement_kind", metadata), nullable=False),
    Column("quantity", BigInteger, CheckConstraint("quantity >= 1", "quantity"), nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("committed", BigInteger, nullable=False),
    Column("damaged", BigInteger, nullable=False),
    Column("outside", BigInteger, nullable=False),
    Column("source_id", Uuid, nullable=False),
    Column("order_id", Uuid),
    Column("line_number", SmallInteger),
    Column("cumulative", BigInteger, nullable=False),
    Column("level_version", BigInteger, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False, server_default=""),
    Column("claimed_actor", Text),
    Column("cause", Text, nullable=False, server_default=""),
    Column("note", Text),
    CheckConstraint("available + committed + damaged + outside = 0", "conservation"),
    CheckConstraint(f"case kind {' '.join(map(effect, MovementKind))} end", "effect"),
    CheckConstraint("(order_id is null) = (line_number is null)", "order_line"),
    UniqueConstraint(
        "source_id",
        "line_number",
        "kind",
        "level_id",
        "cumulative",
        name="movements_business_key",
        postgresql_nulls_not_distinct=True,
    ),
)
Index(None, movements.c.level_id, movements.c.id)
Index(
    None, movements.c.order_id, movements.c.id, postgresql_where=movements.c.order_id.is_not(None)
)

# One row for each order that has or had reservations, or closed attempts. A write about an order
# locks it.
order_reservations = Table(
    "order_reservations",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column(
        "closed_attempt",
        Integer,
        CheckConstraint("closed_attempt >= 0", "closed_attempt"),
        nullable=False,
    ),
    Column("version", BigInteger, CheckConstraint("version >= 1", "version"), nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("order_reservations.order_id"), nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("generation", Integer, CheckConstraint("generation >= 1", "generation"), nullable=False),
    Column("warehouse_id", Text, nullable=False),
    Column("status", enum(Status, "reservation_status", metadata), nullable=False),
    Column("version", BigInteger, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("order_id", "attempt", "generation", "warehouse_id"),
)
# Only an expired reservation can be replaced.
Index(
    "reservations_unexpired_key",
    reservations.c.order_id,
    reservations.c.attempt,
    reservations.c.warehouse_id,
    unique=True,
    postgresql_where=reservations.c.status != Status.EXPIRED,
)
Index(None, reservations.c.expire_time, postgresql_where=reservations.c.status == Status.ACTIVE)
Index(None, reservations.c.status, reservations.c.id)
Index(None, reservations.c.warehouse_id, reservations.c.id)
Index(None, reservations.c.update_time)

reservation_lines = Table(
    "reservation_lines",
    metadata,
    Column("reservation_id", Uuid, ForeignKey("reservations.id")),
    Column("number", SmallInteger, CheckConstraint("number between 1 and 500", "number")),
    Column("sku", Text, nullable=False),
    Column(
        "quantity",
        Integer,
        CheckConstraint("quantity between 1 and 1000000", "quantity"),
        nullable=False,
    ),
    *(
        Column(bucket, Integer, CheckConstraint(f"{bucket} >= 0", bucket), nullable=False)
        for bucket in Bucket
    ),
    Column(
        "expired",
        Integer,
        CheckConstraint("expired between 0 and released", "expired"),
        nullable=False,
    ),
    Column(
        "spoiled",
        Integer,
        CheckConstraint("spoiled between 0 and written_off", "spoiled"),
        nullable=False,
        server_default="0",
    ),
    PrimaryKeyConstraint("reservation_id", "number"),
    CheckConstraint(f"{' + '.join(Bucket)} = quantity", "units"),
)

# One row for each order line of which units have shipped, over all attempts and warehouses. Returns
# bring back at most the shipped units.
order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", Uuid, ForeignKey("order_reservations.order_id")),
    Column(
        "line_number", SmallInteger, CheckConstraint("line_number between 1 and 500", "line_number")
    ),
    Column("sku", Text, nullable=False),
    Column("shipped", Integer, CheckConstraint("shipped >= 1", "shipped"), nullable=False),
    Column("restocked", Integer, CheckConstraint("restocked >= 0", "restocked"), nullable=False),
    Column("damaged", Integer, CheckConstraint("damaged >= 0", "damaged"), nullable=False),
    PrimaryKeyConstraint("order_id", "line_number"),
    CheckConstraint("restocked + damaged <= shipped", "returned"),
)

# The versions that `omctl events set-version` can set.
stored_versions: tuple[StoredVersion, ...] = ()
