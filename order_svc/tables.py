"""The tables of the order service. What must always hold stands here as a constraint; each index
has its query in store/.
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
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.naming import conv

from chassis.write import tables as shared
from chassis.write.tables import StoredVersion, enum
from order_svc.lifecycle import (
    CANCELLED_OR_FAILED,
    Commit,
    FulfillmentState,
    PaymentOutcome,
    PaymentStatus,
    Progress,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    ShipmentOutcome,
    Status,
    StockStatus,
)

metadata = shared.new_metadata()
idempotency_keys = shared.idempotency_keys(metadata)
outbox = shared.outbox(metadata)
failed_events = shared.failed_events(metadata)
stream_positions = shared.stream_positions(metadata)


status = enum(Status, "order_status", metadata)
return_status = enum(ReturnStatus, "return_status", metadata)

orders = Table(
    "orders",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Text, nullable=False, unique=True),
    Column("checkout_key", Text, nullable=False, unique=True),
    Column("customer_id", Text),
    Column("external_reference", Text),
    Column("status", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("payment_outcome", enum(PaymentOutcome, "payment_outcome", metadata), nullable=False),
    Column("commit", enum(Commit, "stock_commit", metadata), nullable=False),
    # properties of the record from here to return_progress: for queries
    Column("payment", enum(PaymentStatus, "payment_status", metadata), nullable=False),
    Column("progress", enum(Progress, "fulfillment_progress", metadata), nullable=False),
    Column("stock", enum(StockStatus, "stock_status", metadata), nullable=False),
    Column("return_progress", enum(ReturnProgress, "return_progress", metadata), nullable=False),
    Column(
        "currency", Text, CheckConstraint("currency ~ '^[A-Z]{3}$'", "currency"), nullable=False
    ),
    Column("shipping", BigInteger, CheckConstraint("shipping >= 0", "shipping"), nullable=False),
    Column("captured", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded", BigInteger, CheckConstraint("refunded >= 0", "refunded"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True)),
    # an order without returns is loaded without a query of them
    Column("has_returns", Boolean, nullable=False, server_default=false()),
    Column("unique_external_reference", Boolean, nullable=False, server_default=false()),
    CheckConstraint(
        "(status = 'pending') = (expire_time is not null)", "expire_time_while_pending"
    ),
    CheckConstraint("captured >= refunded", "captured"),
)
Index(None, orders.c.status, orders.c.id)
Index(None, orders.c.customer_id, orders.c.id, postgresql_where=orders.c.customer_id.is_not(None))
Index(
    None,
    orders.c.external_reference,
    orders.c.id,
    postgresql_where=orders.c.external_reference.is_not(None),
)
Index(
    "orders_unique_external_reference",
    orders.c.customer_id,
    orders.c.external_reference,
    unique=True,
    postgresql_nulls_not_distinct=True,  # guests are one customer
    postgresql_where=and_(
        orders.c.unique_external_reference, orders.c.status.not_in(sorted(CANCELLED_OR_FAILED))
    ),
)
Index(None, orders.c.expire_time, postgresql_where=orders.c.status == Status.PENDING)
Index(None, orders.c.update_time)
Index(
    "orders_commit_pending",
    orders.c.id,
    postgresql_where=orders.c.stock == StockStatus.COMMIT_PENDING,
)

lines = Table(
    "order_lines",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id")),
    Column("number", SmallInteger, CheckConstraint("number between 1 and 500", "number")),
    Column("sku", Text, nullable=False),
    Column(
        "quantity",
        Integer,
        CheckConstraint("quantity between 1 and 1000000", "quantity"),
        nullable=False,
    ),
    Column("cancelled", Integer, nullable=False),
    Column(
        "unit_price", BigInteger, CheckConstraint("unit_price >= 0", "unit_price"), nullable=False
    ),
    Column("discount", BigInteger, nullable=False),
    Column("tax", BigInteger, CheckConstraint("tax >= 0", "tax"), nullable=False),
    PrimaryKeyConstraint("order_id", "number"),
    CheckConstraint("cancelled between 0 and quantity", "cancelled"),
    CheckConstraint("discount between 0 and unit_price * quantity", "discount"),
)

allocations = Table(
    "allocations",
    metadata,
    Column("order_id", Uuid),
    Column("line_number", SmallInteger),
    Column("warehouse_id", Text),
    Column("reservation_id", Uuid, nullable=False),
    Column("quantity", Integer, CheckConstraint("quantity >= 0", "quantity"), nullable=False),
    Column("shipped", Integer, CheckConstraint("shipped >= 0", "shipped")),
    PrimaryKeyConstraint("order_id", "line_number", "warehouse_id"),
    ForeignKeyConstraint(
        ["order_id", "line_number"], ["order_lines.order_id", "order_lines.number"]
    ),
)

warehouse_fulfillments = Table(
    "warehouse_fulfillments",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id")),
    Column("attempt", Integer),
    Column("warehouse_id", Text),
    Column("fulfillment_id", Uuid),
    Column("version", Integer, nullable=False),
    Column("state", enum(FulfillmentState, "fulfillment_state", metadata), nullable=False),
    Column("shipment_id", Uuid),
    Column("tracking_number", Text),
    Column("deliver_time", DateTime(timezone=True)),
    Column("outcome", enum(ShipmentOutcome, "shipment_outcome", metadata)),
    Column(
        "withdraw_version",
        Integer,
        CheckConstraint("withdraw_version >= 0", "withdraw_version"),
        nullable=False,
        server_default="0",
    ),
    PrimaryKeyConstraint("order_id", "attempt", "warehouse_id"),
    CheckConstraint("shipment_id is not null or deliver_time is null", "shipped_before_delivered"),
    CheckConstraint(
        "outcome is null or (shipment_id is not null and deliver_time is null)", "outcome"
    ),
)

history = Table(
    "history",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id")),
    Column("version", Integer),
    Column("attempt", Integer, nullable=False),
    Column("old", status),
    Column("new", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("claimed_actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("order_id", "version"),
    # One cause moves an order from a status to another, or cancels units of it there, once for
    # ever.
    UniqueConstraint(
        "order_id", "cause", "old", "new", name=conv("history_order_id_cause_old_new_key")
    ),
    CheckConstraint("(old is null) = (version = 1)", "creation"),
)

late_events = Table(
    "late_events",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id")),
    Column("cause", Text),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("order_id", "cause"),
)

recipients = Table(
    "recipients",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("address_lines", ARRAY(Text), nullable=False),
    Column("locality", Text, nullable=False),
    Column("administrative_area", Text, nullable=False),
    Column("postal_code", Text, nullable=False),
    Column("country_code", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("phone", Text, nullable=False),
    comment="The only place in the system that holds names and addresses.",
)

returns = Table(
    "returns",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("orders.id"), nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("kind", enum(ReturnKind, "return_kind", metadata), nullable=False),
    Column("status", return_status, nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("warehouse_id", Text),
    Column("refunded", BigInteger, CheckConstraint("refunded >= 0", "refunded"), nullable=False),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    # for the lines: a return is of lines of its order
    UniqueConstraint("id", "order_id", name=conv("returns_id_order_id_key")),
    CheckConstraint("kind <> 'recall' or refunded = 0", "recall_without_refund"),
)
Index("returns_create_time_id", returns.c.create_time, returns.c.id)
Index(None, returns.c.update_time)
Index("returns_order_id_create_time_id", returns.c.order_id, returns.c.create_time, returns.c.id)
Index("returns_status_create_time_id", returns.c.status, returns.c.create_time, returns.c.id)

return_lines = Table(
    "return_lines",
    metadata,
    Column("return_id", Uuid),
    Column("order_id", Uuid, nullable=False),
    Column("number", SmallInteger),
    Column("announced", Integer, CheckConstraint("announced >= 0", "announced"), nullable=False),
    Column("received", Integer, CheckConstraint("received >= 0", "received"), nullable=False),
    Column("passed", Integer, CheckConstraint("passed >= 0", "passed"), nullable=False),
    Column("failed", Integer, CheckConstraint("failed >= 0", "failed"), nullable=False),
    Column(
        "written_off", Integer, CheckConstraint("written_off >= 0", "written_off"), nullable=False
    ),
    Column("unrefunded", Integer, nullable=False),
    Column("refund", BigInteger, CheckConstraint("refund >= 0", "refund"), nullable=False),
    PrimaryKeyConstraint("return_id", "number"),
    ForeignKeyConstraint(["return_id", "order_id"], ["returns.id", "returns.order_id"]),
    ForeignKeyConstraint(["order_id", "number"], ["order_lines.order_id", "order_lines.number"]),
    CheckConstraint("passed + failed + written_off <= received", "accepted_once"),
    CheckConstraint("unrefunded between 0 and passed + failed", "unrefunded"),
)

return_history = Table(
    "return_history",
    metadata,
    Column("return_id", Uuid, ForeignKey("returns.id")),
    Column("version", Integer),
    Column("old", return_status),
    Column("new", return_status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("claimed_actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("return_id", "version"),
    # one cause moves a return to a status once, for ever
    UniqueConstraint("return_id", "cause", "new"),
    CheckConstraint("(old is null) = (version = 1)", "creation"),
)

# What `omctl events set-version` can set.
stored_versions = (
    StoredVersion(
        version=warehouse_fulfillments.c.version,
        order_id=warehouse_fulfillments.c.order_id,
        fulfillment_id=warehouse_fulfillments.c.fulfillment_id,
        withdraw_version=warehouse_fulfillments.c.withdraw_version,
    ),
)
