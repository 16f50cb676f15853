"""History has each request's claimed actor and note; update_time an index."""

from alembic import op

from chassis.migration import record_operators

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    record_operators()
    op.execute("ALTER TABLE history ADD COLUMN claimed_actor text, ADD COLUMN note text")
    op.execute("CREATE INDEX payments_update_time ON payments (update_time)")
    op.execute(
        """
        CREATE INDEX operations_refunds_update_time
        ON operations (coalesce(settle_time, request_time))
        WHERE kind = 'refund'
        """
    )
