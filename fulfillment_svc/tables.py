"""The tables of the fulfilment service. What must always hold stands here as a constraint; each
index has its query in store/.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    not_,
)

from chassis.write import tables as shared
from chassis.write.tables import StoredVersion, enum
from fulfillment_svc.lifecycle import InspectionRule, Status, WithdrawReason

metadata = shared.new_metadata()
idempotency_keys = shared.idempotency_keys(metadata)
outbox = shared.outbox(metadata)
failed_events = shared.failed_events(metadata)
stream_positions = shared.stream_positions(metadata)


status = enum(Status, "fulfillment_status", metadata)

# The rows that each write about an order's fulfilments locks, with the facts of the order's events
# that outlast an event.
orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column(
        "closed_attempt",
        Integer,
        CheckConstraint("closed_attempt >= 0", "closed_attempt"),
        nullable=False,
    ),
    Column("remaining_attempt", Integer),
    Column("remaining_version", BigInteger),
    CheckConstraint("(remaining_attempt is null) = (remaining_version is null)", "remaining"),
)

# The remaining units of an order that lost others, or whose commit was pending.
remaining_units = Table(
    "remaining_units",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.order_id")),
    Column("warehouse_id", Text),
    Column(
        "line_number", SmallInteger, CheckConstraint("line_number between 1 and 500", "line_number")
    ),
    Column(
        "quantity",
        Integer,
        CheckConstraint("quantity between 1 and 1000000", "quantity"),
        nullable=False,
    ),
    PrimaryKeyConstraint("order_id", "warehouse_id", "line_number"),
)

fulfillments = Table(
    "fulfillments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("warehouse_id", Text, nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("order_number", Text, nullable=False),
    Column("status", status, nullable=False),
    Column("stock_committed", Boolean, nullable=False),
    Column("inspection_rule", enum(InspectionRule, "inspection_rule", metadata)),
    Column("shipment_id", Uuid),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("withdraw_reason", enum(WithdrawReason, "withdraw_reason", metadata)),
    Column(
        "withdrawn_version",
        Integer,
        CheckConstraint("withdrawn_version between 0 and version", "withdrawn_version"),
        nullable=False,
    ),
    UniqueConstraint("order_id", "warehouse_id", "attempt"),
    CheckConstraint(
        "stock_committed or status in ('pending', 'planning', 'cancelled')",
        "stock_committed_before_picking",
    ),
    CheckConstraint(
        "shipment_id is not null or status not in ('shipped', 'completed')",
        "shipment_id_once_shipped",
    ),
    CheckConstraint(
        "shipment_id is null or status in ('ready', 'shipped', 'completed')",
        "no_shipment_before_ready",
    ),
    CheckConstraint("withdraw_reason is null or status = 'ready'", "withdraw_reason_while_ready"),
)
Index(None, fulfillments.c.status, fulfillments.c.id)
Index(None, fulfillments.c.warehouse_id, fulfillments.c.id)
Index(None, fulfillments.c.update_time)
Index(
    "fulfillments_commit_pending",
    fulfillments.c.id,
    postgresql_where=and_(
        fulfillments.c.status == Status.PLANNING, not_(fulfillments.c.stock_committed)
    ),
)

lines = Table(
    "picklist_lines",
    metadata,
    Column("fulfillment_id", Uuid, ForeignKey("fulfillments.id")),
    Column(
        "line_number", SmallInteger, CheckConstraint("line_number between 1 and 500", "line_number")
    ),
    Column("sku", Text, nullable=False),
    Column(
        "quantity",
        Integer,
        CheckConstraint("quantity between 0 and 1000000", "quantity"),
        nullable=False,
    ),
    Column("picked", Integer, nullable=False),
    Column("cut", Integer, CheckConstraint("cut >= 0", "cut"), nullable=False),
    Column("short", Integer, CheckConstraint("short >= 0", "short"), nullable=False),
    Column("spoiled", Integer, CheckConstraint("spoiled >= 0", "spoiled"), nullable=False),
    Column(
        "found_spoiled",
        Integer,
        CheckConstraint("found_spoiled >= 0", "found_spoiled"),
        nullable=False,
    ),
    PrimaryKeyConstraint("fulfillment_id", "line_number"),
    CheckConstraint("picked between 0 and quantity", "picked"),
)

packages = Table(
    "packages",
    metadata,
    Column("fulfillment_id", Uuid, ForeignKey("fulfillments.id")),
    Column("number", SmallInteger, CheckConstraint("number between 1 and 100", "number")),
    Column(
        "weight_grams",
        Integer,
        CheckConstraint("weight_grams >= 1", "weight_grams"),
        nullable=False,
    ),
    Column("length_mm", Integer, CheckConstraint("length_mm >= 1", "length_mm"), nullable=False),
    Column("width_mm", Integer, CheckConstraint("width_mm >= 1", "width_mm"), nullable=False),
    Column("height_mm", Integer, CheckConstraint("height_mm >= 1", "height_mm"), nullable=False),
    PrimaryKeyConstraint("fulfillment_id", "number"),
)

items = Table(
    "packed_items",
    metadata,
    Column("fulfillment_id", Uuid),
    Column("package_number", SmallInteger),
    Column("line_number", SmallInteger),
    Column("quantity", Integer, CheckConstraint("quantity >= 1", "quantity"), nullable=False),
    PrimaryKeyConstraint("fulfillment_id", "package_number", "line_number"),
    ForeignKeyConstraint(
        ["fulfillment_id", "package_number"],
        ["packages.fulfillment_id", "packages.number"],
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["fulfillment_id", "line_number"],
        ["picklist_lines.fulfillment_id", "picklist_lines.line_number"],
    ),
)

# The units in the parcels of void labels: they ship only by a contradiction of the carrier's.
void_labels = Table(
    "void_labels",
    metadata,
    Column("fulfillment_id", Uuid, ForeignKey("fulfillments.id")),
    Column("shipment_id", Uuid),
    Column("line_number", SmallInteger),
    Column("quantity", Integer, CheckConstraint("quantity >= 1", "quantity"), nullable=False),
    Column("shipped", Boolean, nullable=False),
    PrimaryKeyConstraint("fulfillment_id", "shipment_id", "line_number"),
)

history = Table(
    "history",
    metadata,
    Column("fulfillment_id", Uuid, ForeignKey("fulfillments.id")),
    Column("version", Integer),
    Column("old", status),
    Column("new", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("claimed_actor", Text),
    PrimaryKeyConstraint("fulfillment_id", "version"),
    # one cause moves a fulfilment to a status once, for ever
    UniqueConstraint("fulfillment_id", "cause", "new"),
    CheckConstraint("(old is null) = (version = 1)", "creation"),
)

# What `omctl events set-version` can set.
stored_versions = (StoredVersion(version=orders.c.remaining_version, order_id=orders.c.order_id),)
