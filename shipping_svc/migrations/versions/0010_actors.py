"""History and tracking events have each request's claimed actor and note; update_time an index."""

from alembic import op

from chassis.migration import record_operators

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    record_operators()
    for table in ("history", "tracking_events"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN claimed_actor text, ADD COLUMN note text")
    op.execute("CREATE INDEX shipments_update_time ON shipments (update_time)")
