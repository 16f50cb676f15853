"""External references that an order is to have alone."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    "ALTER TABLE orders ADD COLUMN unique_external_reference BOOLEAN NOT NULL DEFAULT false",
    (
        "CREATE UNIQUE INDEX orders_unique_external_reference ON orders (customer_id,"
        " external_reference) NULLS NOT DISTINCT WHERE unique_external_reference AND status NOT IN"
        " ('cancelled', 'failed')"
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
