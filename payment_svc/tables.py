"""The tables of the payment service. Invariants are constraints; each index has its query in
store.py.

The sandbox processor's tables are in providers/sandbox_ledger.py: it stands for another system.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from chassis.write import tables as shared
from chassis.write.tables import StoredVersion, enum
from payment_svc.lifecycle import (
    CHARGED,
    LIVE,
    OPEN,
    REVERSALS,
    Cause,
    Kind,
    Outcome,
    Status,
)

metadata = shared.new_metadata()
idempotency_keys = shared.idempotency_keys(metadata)
outbox = shared.outbox(metadata)
failed_events = shared.failed_events(metadata)
stream_positions = shared.stream_positions(metadata)


def quoted(members: frozenset[Status] | frozenset[Outcome] | frozenset[Kind]) -> str:
    """The members as SQL writes them."""
    return ", ".join(f"'{member}'" for member in sorted(members))


status = enum(Status, "payment_status", metadata)
outcome = enum(Outcome, "operation_outcome", metadata)

accounts = Table(
    "accounts",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("version", BigInteger, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("status", Text, nullable=False),
    Column("total", BigInteger, CheckConstraint("total >= 0", "total"), nullable=False),
    Column(
        "currency", Text, CheckConstraint("currency ~ '^[A-Z]{3}$'", "currency"), nullable=False
    ),
    comment=(
        "What may be charged for each order. The lock of its row guards its payments and operations"
        " too."
    ),
)

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("accounts.order_id"), nullable=False),
    Column("attempt", Integer, CheckConstraint("attempt >= 1", "attempt"), nullable=False),
    Column("try_number", Integer, CheckConstraint("try_number >= 1", "try_number"), nullable=False),
    Column("order_version", BigInteger, CheckConstraint("order_version >= 1", "order_version")),
    Column("status", status, nullable=False),
    Column(
        "currency", Text, CheckConstraint("currency ~ '^[A-Z]{3}$'", "currency"), nullable=False
    ),
    Column("amount", BigInteger, nullable=False),
    Column("authorized", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("refund_pending", BigInteger, nullable=False, server_default=text("0")),
    Column("processor", Text, nullable=False),
    Column("decline_code", Text),
    Column("version", Integer, CheckConstraint("version >= 1", "version"), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    UniqueConstraint("order_id", "attempt", "try_number"),
    CheckConstraint("authorized between 0 and amount", "authorized"),
    CheckConstraint("captured between 0 and authorized", "captured"),
    CheckConstraint(
        "refunded >= 0 and refund_pending >= 0 and refunded + refund_pending <= captured",
        "refunded",
    ),
    CheckConstraint(f"(status in ({quoted(CHARGED)})) = (captured > 0)", "charged"),
    CheckConstraint("status <> 'authorized' or authorized > 0", "authorized_positive"),
    CheckConstraint("status <> 'refunded' or refunded = captured", "all_refunded"),
    CheckConstraint("(status = 'not_required') = (amount = 0)", "not_required"),
    CheckConstraint(
        "(status in ('declined', 'failed')) = (decline_code is not null)", "decline_code"
    ),
)
Index(
    "payments_one_per_attempt",
    payments.c.order_id,
    payments.c.attempt,
    unique=True,
    postgresql_where=payments.c.status.in_(sorted(LIVE)),
)
Index(None, payments.c.order_id, payments.c.id)
Index(None, payments.c.status, payments.c.id)
Index(None, payments.c.update_time)

operations = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
    Column("kind", enum(Kind, "operation_kind", metadata), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("outcome", outcome, nullable=False),
    Column("requested_by", Text, nullable=False, unique=True),
    Column("request_time", DateTime(timezone=True), nullable=False),
    Column("next_lookup_time", DateTime(timezone=True)),
    Column("lookups", Integer, CheckConstraint("lookups >= 0", "lookups"), nullable=False),
    Column("reference", Text),
    Column("failure_code", Text),
    Column("settle_time", DateTime(timezone=True)),
    Column("cause", enum(Cause, "refund_cause", metadata)),
    Column("cause_id", Text),
    UniqueConstraint("kind", "reference"),  # one answer is never applied twice
    UniqueConstraint("payment_id", "kind", "cause", "cause_id"),  # one operation for each cause
    # Zero: the refund of a return of which nothing remains to refund. It failed without a call to
    # the processor.
    CheckConstraint(
        "amount > 0 or (amount = 0 and kind = 'refund' and outcome = 'failed')", "amount"
    ),
    CheckConstraint(
        f"(kind in ({quoted(REVERSALS)})) = (cause is not null) and (cause is null) = (cause_id is"
        " null)",
        "cause",
    ),
    CheckConstraint(
        f"(outcome in ({quoted(OPEN)})) = (next_lookup_time is not null)", "lookup_while_open"
    ),
    CheckConstraint("(next_lookup_time is null) = (settle_time is not null)", "settled"),
    CheckConstraint("(outcome = 'failed') = (failure_code is not null)", "failure_code"),
    CheckConstraint("outcome <> 'succeeded' or reference is not null", "reference"),
    comment=(
        "The requests to processors. Rows are never deleted, and a settled outcome never changes."
    ),
)
Index(None, operations.c.payment_id)
Index(
    None, operations.c.next_lookup_time, postgresql_where=operations.c.next_lookup_time.is_not(None)
)
Index(
    "operations_one_open_charge",
    operations.c.payment_id,
    unique=True,
    postgresql_where=operations.c.next_lookup_time.is_not(None)
    & (operations.c.kind != Kind.REFUND),
)
Index(
    "operations_refunds",
    operations.c.request_time,
    operations.c.id,
    postgresql_where=operations.c.kind == Kind.REFUND,
)
# When a refund last changed (model.records.Refund.update_time).
refund_update_time = func.coalesce(operations.c.settle_time, operations.c.request_time)
Index(
    "operations_refunds_update_time",
    refund_update_time,
    postgresql_where=operations.c.kind == Kind.REFUND,
)

contradictions = Table(
    "contradictions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("operation_id", Uuid, ForeignKey("operations.id"), nullable=False),
    Column("outcome", outcome, nullable=False),
    Column("reference", Text),
    Column("failure_code", Text),
    Column("report_id", Text, nullable=False),
    Column(
        "payload_sha256",
        LargeBinary,
        CheckConstraint("octet_length(payload_sha256) = 32", "payload_sha256"),
        nullable=False,
    ),
    Column("report_time", DateTime(timezone=True), nullable=False),
    Column("resolve_time", DateTime(timezone=True)),
    Column("resolve_note", Text),
    UniqueConstraint("operation_id", "payload_sha256"),
    CheckConstraint("outcome in ('failed', 'succeeded')", "outcome"),
    CheckConstraint("(resolve_time is null) = (resolve_note is null)", "resolved"),
    comment="Reports of a processor about a settled operation that contradict an earlier one.",
)
Index(
    "contradictions_open",
    contradictions.c.report_time,
    postgresql_where=contradictions.c.resolve_time.is_(None),
)

history = Table(
    "history",
    metadata,
    Column("payment_id", Uuid, ForeignKey("payments.id")),
    Column("version", Integer),
    Column("old", status),
    Column("new", status, nullable=False),
    Column("operation_id", Uuid),
    Column("outcome", outcome),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("claimed_actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("payment_id", "version"),
    CheckConstraint("(old is null) = (version = 1)", "creation"),
    CheckConstraint("(operation_id is null) = (outcome is null)", "operation"),
)

# What `omctl events set-version` can set.
stored_versions = (StoredVersion(version=accounts.c.version, order_id=accounts.c.order_id),)
