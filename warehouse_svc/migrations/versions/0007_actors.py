"""The ledger has the actor, the claimed actor, the cause and the note of each row.

A reservation has the time of its last change; those of before have the time of this migration.
"""

from alembic import op

from chassis.migration import record_operators

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    # Constant defaults: no row is written.
    """
    ALTER TABLE movements
        ADD COLUMN actor text NOT NULL DEFAULT '',
        ADD COLUMN claimed_actor text,
        ADD COLUMN cause text NOT NULL DEFAULT '',
        ADD COLUMN note text
    """,
    "ALTER TABLE reservations ADD COLUMN update_time timestamptz NOT NULL DEFAULT now()",
    "CREATE INDEX reservations_update_time ON reservations (update_time)",
)


def upgrade() -> None:
    record_operators()
    for statement in STATEMENTS:
        op.execute(statement)
