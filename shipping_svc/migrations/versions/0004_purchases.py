"""Parcels that are packed anew before their label is bought are another purchase; and what may have been sold unheard of is recalled.

The version before knows one purchase of each shipment, the first. A replica of it closes with one answer all recalls of a shipment, and
cannot ask for one without a tracking number: drain those before this.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

CHANGES = (
    """
    ALTER TABLE shipments ADD COLUMN purchase integer NOT NULL DEFAULT 0
        CONSTRAINT shipments_purchase CHECK (purchase >= 0)
    """,
    """
    ALTER TABLE recall_tries
        ADD COLUMN purchase integer NOT NULL DEFAULT 0 CONSTRAINT recall_tries_purchase CHECK (purchase >= 0),
        ALTER COLUMN tracking_number DROP NOT NULL,
        DROP CONSTRAINT recall_tries_pkey
    """,
    "ALTER TABLE recall_tries ADD CONSTRAINT recall_tries_pkey PRIMARY KEY (shipment_id, purchase)",
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)
