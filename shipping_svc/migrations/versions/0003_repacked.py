"""Which version of its fulfilment a shipment's parcels are of: one that is packed anew before its
label is bought ships the new ones.

The version before stores shipments without it: these are older than any other.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE shipments ADD COLUMN fulfillment_version BIGINT NOT NULL DEFAULT 0
            CONSTRAINT shipments_fulfillment_version CHECK (fulfillment_version >= 0)
        """
    )
