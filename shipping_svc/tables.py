"""The tables of the shipping service.

Constraints guarantee its invariants; each index serves a query in store/.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from chassis.write import tables as shared
from chassis.write.tables import StoredVersion, enum
from shipping_svc.lifecycle import LIVE, Status

metadata = shared.new_metadata()
idempotency_keys = shared.idempotency_keys(metadata)
outbox = shared.outbox(metadata)
failed_events = shared.failed_events(metadata)
stream_positions = shared.stream_positions(metadata)

status = enum(Status, "shipment_status", metadata)

shipments = Table(
    "shipments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("fulfillment_id", Uuid, nullable=False),
    Column("warehouse_id", Text, nullable=False),
    Column("status", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("carrier", Text, nullable=False),
    Column("carrier_code", Text),
    Column("tracking_number", Text),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("report_time", DateTime(timezone=True)),
    Column("deliver_time", DateTime(timezone=True)),
    Column("recall_time", DateTime(timezone=True)),
    Column(
        "fulfillment_version",
        BigInteger,
        CheckConstraint("fulfillment_version >= 0", "fulfillment_version"),
        nullable=False,
        server_default=text("0"),
    ),
    Column(
        "purchase",
        Integer,
        CheckConstraint("purchase >= 0", "purchase"),
        nullable=False,
        server_default="0",
    ),
    Column(
        "withdraw_version", BigInteger, CheckConstraint("withdraw_version >= 1", "withdraw_version")
    ),
    Column("contradict_time", DateTime(timezone=True)),
    CheckConstraint(
        "(tracking_number is null) = (status in ('pending', 'failed'))",
        "tracking_number_with_label",
    ),
    CheckConstraint(
        "(report_time is null) = (status in ('pending', 'created', 'failed', 'voided'))",
        "report_time_with_report",
    ),
    CheckConstraint(
        "(deliver_time is not null) = (status = 'delivered')", "deliver_time_with_delivery"
    ),
    CheckConstraint("carrier_code is null or status = 'failed'", "carrier_code_with_refusal"),
    CheckConstraint(
        "recall_time is null or status not in ('pending', 'failed')", "recall_time_with_label"
    ),
    CheckConstraint(
        "recall_time is not null or withdraw_version is not null or status <> 'voided'",
        "void_requested",
    ),
    CheckConstraint("contradict_time is null or status = 'voided'", "contradict_time_with_void"),
)
# A fulfilment has one shipment at a time. Another may follow a withdrawn one that has not left.
Index(
    "shipments_valid_fulfillment_key",
    shipments.c.fulfillment_id,
    unique=True,
    postgresql_where=shipments.c.status.not_in([Status.FAILED, Status.VOIDED]),
)
Index(None, shipments.c.fulfillment_id)
Index(None, shipments.c.order_id, shipments.c.id)
Index(None, shipments.c.status, shipments.c.id)
Index(None, shipments.c.tracking_number)
Index(None, shipments.c.update_time)
# A carrier reuses its numbers after a shipment's end, and two carriers may sell the same number.
Index(
    "shipments_live_tracking_number_key",
    shipments.c.carrier,
    shipments.c.tracking_number,
    unique=True,
    postgresql_where=shipments.c.status.in_(sorted(LIVE)),
)

parcels = Table(
    "parcels",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id")),
    Column("number", SmallInteger, CheckConstraint("number between 1 and 100", "number")),
    Column(
        "weight_grams",
        Integer,
        CheckConstraint("weight_grams between 1 and 1000000", "weight"),
        nullable=False,
    ),
    Column(
        "length_mm",
        Integer,
        CheckConstraint("length_mm between 1 and 10000", "length"),
        nullable=False,
    ),
    Column(
        "width_mm",
        Integer,
        CheckConstraint("width_mm between 1 and 10000", "width"),
        nullable=False,
    ),
    Column(
        "height_mm",
        Integer,
        CheckConstraint("height_mm between 1 and 10000", "height"),
        nullable=False,
    ),
    PrimaryKeyConstraint("shipment_id", "number"),
)

labels = Table(
    "labels",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id"), primary_key=True),
    Column(
        "content",
        LargeBinary,
        CheckConstraint("octet_length(content) between 1 and 5242880", "content"),
        nullable=False,
    ),
    Column("content_type", Text, nullable=False),
    comment="Labels show names and addresses: the only place in this database that does.",
)

label_tries = Table(
    "label_tries",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id"), primary_key=True),
    Column("tries", Integer, CheckConstraint("tries >= 1", "tries"), nullable=False),
    Column("try_time", DateTime(timezone=True), nullable=False),
    comment=(
        "Shipments whose label is still to be bought: how often that was begun, and when last. The"
        " row goes when it is settled."
    ),
)
Index(None, label_tries.c.try_time)

recall_tries = Table(
    "recall_tries",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id")),
    Column("purchase", Integer, CheckConstraint("purchase >= 0", "purchase"), server_default="0"),
    Column("tracking_number", Text),  # null: the outcome of the purchase is unknown
    Column("open_time", DateTime(timezone=True), nullable=False),
    Column("tries", Integer, CheckConstraint("tries >= 1", "tries"), nullable=False),
    Column("try_time", DateTime(timezone=True), nullable=False),
    Column("bring_back", Boolean, nullable=False, server_default="true"),
    PrimaryKeyConstraint("shipment_id", "purchase"),
    comment=(
        "Labels that the carrier is to be asked to take back: how often that was begun, and when"
        " last. The row goes when it answers."
    ),
)
Index(None, recall_tries.c.try_time)

history = Table(
    "history",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id")),
    Column("version", Integer),
    Column("old", status),
    Column("new", status, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("claimed_actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("shipment_id", "version"),
    # one cause changes a shipment to a status at most once
    UniqueConstraint("shipment_id", "cause", "new"),
    CheckConstraint("(old is null) = (version = 1)", "creation"),
)

tracking_events = Table(
    "tracking_events",
    metadata,
    Column("shipment_id", Uuid, ForeignKey("shipments.id")),
    Column("carrier_event_id", Text),
    Column("status", status, nullable=False),
    Column("occur_time", DateTime(timezone=True), nullable=False),
    Column("location", Text, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    Column("claimed_actor", Text),
    Column("note", Text),
    # a repeated report is recorded once
    PrimaryKeyConstraint("shipment_id", "carrier_event_id"),
    CheckConstraint("status not in ('pending', 'created', 'failed', 'voided')", "status"),
)
Index(None, tracking_events.c.shipment_id, tracking_events.c.sequence)

closed_orders = Table(
    "closed_orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column(
        "status",
        Text,
        CheckConstraint("status in ('cancelled', 'failed')", "status"),
        nullable=False,
    ),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("close_time", DateTime(timezone=True), nullable=False),
)

closed_fulfillments = Table(
    "closed_fulfillments",
    metadata,
    Column("fulfillment_id", Uuid, primary_key=True),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("close_time", DateTime(timezone=True), nullable=False),
)

# The versions that `omctl events set-version` can set.
stored_versions = (
    StoredVersion(version=closed_orders.c.version, order_id=closed_orders.c.order_id),
    StoredVersion(
        version=shipments.c.fulfillment_version,
        order_id=shipments.c.order_id,
        fulfillment_id=shipments.c.fulfillment_id,
        withdraw_version=shipments.c.withdraw_version,
    ),
)
