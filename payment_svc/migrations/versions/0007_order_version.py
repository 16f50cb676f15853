"""A payment stores the order's version whose total was charged or captured."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE payments ADD COLUMN order_version BIGINT CONSTRAINT payments_order_version"
        " CHECK (order_version >= 1)"
    )
