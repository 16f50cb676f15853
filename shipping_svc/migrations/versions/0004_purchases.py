"""Parcels that are packed anew before their label is bought are another purchase; and what may have
been sold unheard of is recalled.

The version before knew one purchase of each shipment, and forgot what it had not heard of: what
waits after it was packed anew is another purchase from here on, and what may have been sold unheard
of, for it or for a shipment that failed, is recalled. Its replicas cannot run beside this: they buy
by the first purchase what is recalled by it.
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
    """
    UPDATE shipments SET purchase = 1 WHERE status = 'pending'
        AND EXISTS (SELECT FROM history WHERE shipment_id = id AND history.reason = 'REPACKED')
    """,
    """
    INSERT INTO recall_tries (shipment_id, purchase, open_time, tries, try_time)
        SELECT id, 0, now(), 1, now() FROM shipments
        WHERE purchase = 1 OR (status = 'failed' AND reason <> 'CARRIER_REFUSED')
        ON CONFLICT DO NOTHING
    """,
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)
