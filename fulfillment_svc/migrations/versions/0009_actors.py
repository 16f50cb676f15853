"""History has the claimed actor and the note of each request; an index finds by update_time."""

from alembic import op

from chassis.migration import record_operators

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    record_operators()
    op.execute("ALTER TABLE history ADD COLUMN claimed_actor text, ALTER COLUMN note DROP NOT NULL")
    op.execute("CREATE INDEX fulfillments_update_time ON fulfillments (update_time)")
