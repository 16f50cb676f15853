"""Shipments are recalled: the status voided, when it was wanted back, what the carrier is to be
asked; fulfilments that are cancelled.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

CHANGES = (
    "ALTER TABLE shipments ADD COLUMN recall_time timestamptz",
    "ALTER TABLE shipments DROP CONSTRAINT shipments_report_time_with_report",
    """
    ALTER TABLE shipments
        ADD CONSTRAINT shipments_report_time_with_report
            CHECK ((report_time is null) = (status in ('pending', 'created', 'failed', 'voided'))),
        ADD CONSTRAINT shipments_recall_time_with_label CHECK (recall_time is null or status not in ('pending', 'failed')),
        ADD CONSTRAINT shipments_recall_time_with_void CHECK (recall_time is not null or status <> 'voided')
    """,
    "ALTER TABLE tracking_events DROP CONSTRAINT tracking_events_status",
    """
    ALTER TABLE tracking_events
        ADD CONSTRAINT tracking_events_status CHECK (status not in ('pending', 'created', 'failed', 'voided'))
    """,
    """
    CREATE TABLE recall_tries (
        shipment_id uuid CONSTRAINT recall_tries_pkey PRIMARY KEY CONSTRAINT recall_tries_shipment_id_fkey REFERENCES shipments,
        tracking_number text NOT NULL,
        open_time timestamptz NOT NULL,
        tries integer NOT NULL CONSTRAINT recall_tries_tries CHECK (tries >= 1),
        try_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX recall_tries_try_time ON recall_tries (try_time)",
    """
    CREATE TABLE dead_fulfillments (
        fulfillment_id uuid CONSTRAINT dead_fulfillments_pkey PRIMARY KEY,
        version integer NOT NULL CONSTRAINT dead_fulfillments_version CHECK (version >= 1),
        dead_time timestamptz NOT NULL
    )
    """,
    """
    COMMENT ON TABLE recall_tries IS
        'Labels that the carrier is to be asked to take back: how often that was begun, and when last. The row goes when it answers.'
    """,
)


def upgrade() -> None:
    # A new value may be used only once it is committed; and the constraints below use it.
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE shipment_status ADD VALUE IF NOT EXISTS 'voided'")
    for statement in CHANGES:
        op.execute(statement)
