"""A tracking number is unique with its carrier, and among live shipments only: carriers reuse
their numbers.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

CHANGES = (
    "ALTER TABLE shipments DROP CONSTRAINT shipments_tracking_number_key",
    "CREATE INDEX shipments_tracking_number ON shipments (tracking_number)",
    """
    CREATE UNIQUE INDEX shipments_live_tracking_number_key ON shipments (carrier, tracking_number)
        WHERE status IN ('created', 'delivery_failed', 'in_transit', 'out_for_delivery')
    """,
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)
