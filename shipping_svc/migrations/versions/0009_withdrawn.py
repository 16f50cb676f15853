"""A fulfilment withdraws its parcels: the label is voided, or they go on; afterwards it has
another shipment. And the time of a report that contradicts a void.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

CHANGES = (
    """
    ALTER TABLE shipments
        ADD COLUMN withdraw_version bigint CONSTRAINT shipments_withdraw_version CHECK (withdraw_version >= 1),
        ADD COLUMN contradict_time timestamptz
            CONSTRAINT shipments_contradict_time_with_void CHECK (contradict_time IS NULL OR status = 'voided'),
        DROP CONSTRAINT shipments_fulfillment_id_key,
        DROP CONSTRAINT shipments_recall_time_with_void,
        ADD CONSTRAINT shipments_void_wanted
            CHECK (recall_time IS NOT NULL OR withdraw_version IS NOT NULL OR status <> 'voided')
    """,
    """
    CREATE UNIQUE INDEX shipments_standing_fulfillment_key ON shipments (fulfillment_id)
        WHERE status NOT IN ('failed', 'voided')
    """,
    "CREATE INDEX shipments_fulfillment_id ON shipments (fulfillment_id)",
    "ALTER TABLE recall_tries ADD COLUMN bring_back boolean NOT NULL DEFAULT true",
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)
