"""History has the claimed actor and the note of each request; lists are filtered by update_time.

A part of an order has the highest version at which its fulfilment withdrew a shipment.
"""

from alembic import op

from chassis.migration import record_operators

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    "ALTER TABLE history ADD COLUMN claimed_actor text, ADD COLUMN note text",
    "ALTER TABLE return_history ADD COLUMN claimed_actor text, ADD COLUMN note text",
    """
    ALTER TABLE parts
        ADD COLUMN withdraw_version integer NOT NULL DEFAULT 0
            CONSTRAINT parts_withdraw_version CHECK (withdraw_version >= 0)
    """,
    "CREATE INDEX orders_update_time ON orders (update_time)",
    "CREATE INDEX returns_update_time ON returns (update_time)",
)


def upgrade() -> None:
    record_operators()
    for statement in STATEMENTS:
        op.execute(statement)
