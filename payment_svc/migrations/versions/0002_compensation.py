"""Money goes back: what is on its way back, why each void and refund was asked for, and the
sandbox's memory of them.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "CREATE TYPE refund_cause AS ENUM ('order', 'return', 'request')",
    "ALTER TABLE payments ADD COLUMN refund_pending BIGINT DEFAULT '0' NOT NULL",
    "ALTER TABLE payments DROP CONSTRAINT payments_refunded",
    (
        "ALTER TABLE payments ADD CONSTRAINT payments_refunded "
        "CHECK (refunded >= 0 and refund_pending >= 0 and refunded + refund_pending <= captured)"
    ),
    "ALTER TABLE operations ADD COLUMN cause refund_cause, ADD COLUMN cause_id TEXT",
    (
        "ALTER TABLE operations ADD CONSTRAINT operations_payment_id_kind_cause_cause_id_key UNIQUE"
        " (payment_id, kind, cause, cause_id)"
    ),
    "ALTER TABLE operations DROP CONSTRAINT operations_amount",
    (
        "ALTER TABLE operations ADD CONSTRAINT operations_amount CHECK (amount > 0 or (amount = 0"
        " and kind = 'refund' and outcome = 'failed'))"
    ),
    (
        "ALTER TABLE operations ADD CONSTRAINT operations_cause CHECK ((kind in ('refund', 'void'))"
        " = (cause is not null) and (cause is null) = (cause_id is null))"
    ),
    "CREATE INDEX operations_refunds ON operations (request_time, id) WHERE kind = 'refund'",
    "ALTER TABLE sandbox.operations DROP CONSTRAINT operations_kind",
    (
        "ALTER TABLE sandbox.operations ADD CONSTRAINT operations_kind "
        "CHECK (kind in ('authorize', 'charge', 'capture', 'void', 'refund', 'abandoned'))"
    ),
    (
        "ALTER TABLE sandbox.operations ADD COLUMN parent UUID CONSTRAINT operations_parent_fkey"
        " REFERENCES sandbox.operations (key)"
    ),
    "CREATE INDEX operations_parent ON sandbox.operations (parent) WHERE parent IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
