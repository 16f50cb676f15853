"""A fulfilment that is ready is withdrawn before it is unpacked; what a void label's parcels held
is remembered.

A shipment is known only of what is ready or has left: what a cut has sent back to the bench has
another one when it is ready again.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    (
        "CREATE TYPE withdraw_reason AS ENUM ('UNITS_CUT', 'ORDER_CANCELLED', 'WORK_CANCELLED',"
        " 'INSPECTION_FAILED')"
    ),
    """
    UPDATE fulfillments SET shipment_id = NULL WHERE status NOT IN ('ready', 'shipped', 'completed')
    """,
    """
    ALTER TABLE fulfillments
        ADD COLUMN withdraw_reason withdraw_reason
            CONSTRAINT fulfillments_withdraw_reason_while_ready CHECK (withdraw_reason IS NULL OR status = 'ready'),
        ADD COLUMN released_version integer NOT NULL DEFAULT 0
            CONSTRAINT fulfillments_released_version CHECK (released_version BETWEEN 0 AND version),
        DROP CONSTRAINT fulfillments_no_shipment_before_picking,
        ADD CONSTRAINT fulfillments_no_shipment_before_ready
            CHECK (shipment_id IS NULL OR status IN ('ready', 'shipped', 'completed'))
    """,
    """
    CREATE TABLE void_labels (
        fulfillment_id uuid CONSTRAINT void_labels_fulfillment_id_fkey REFERENCES fulfillments,
        shipment_id uuid,
        line_number smallint,
        quantity integer NOT NULL CONSTRAINT void_labels_quantity CHECK (quantity >= 1),
        "left" boolean NOT NULL,
        CONSTRAINT void_labels_pkey PRIMARY KEY (fulfillment_id, shipment_id, line_number)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
