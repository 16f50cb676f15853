"""A shipment can be known before its fulfilment has shipped: of one that a cut sent back from
ready.

The version before keeps to the narrower rule that goes.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE fulfillments
            DROP CONSTRAINT fulfillments_shipment_id_once_shipped,
            ADD CONSTRAINT fulfillments_shipment_id_once_shipped
                CHECK (shipment_id is not null or status not in ('shipped', 'completed')),
            ADD CONSTRAINT fulfillments_no_shipment_before_picking
                CHECK (shipment_id is null or status not in ('pending', 'planning'))
        """
    )
