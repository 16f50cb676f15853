"""Orders as records of their own; units that leave a picklist, counted by why.

The version before goes on meanwhile: it knows no order and counts nothing, so fulfilments refer to
no order, and counts have a default.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STEPS = (
    """
    CREATE TABLE orders (
        order_id UUID NOT NULL,
        closed_attempt INTEGER NOT NULL CONSTRAINT orders_closed_attempt CHECK (closed_attempt >= 0),
        kept_attempt INTEGER,
        kept_version BIGINT,
        CONSTRAINT orders_pkey PRIMARY KEY (order_id),
        CONSTRAINT orders_kept CHECK ((kept_attempt is null) = (kept_version is null))
    )
    """,
    """
    CREATE TABLE kept_units (
        order_id UUID NOT NULL,
        warehouse_id TEXT NOT NULL,
        line_number SMALLINT NOT NULL CONSTRAINT kept_units_line_number CHECK (line_number between 1 and 500),
        quantity INTEGER NOT NULL CONSTRAINT kept_units_quantity CHECK (quantity between 1 and 1000000),
        CONSTRAINT kept_units_pkey PRIMARY KEY (order_id, warehouse_id, line_number),
        CONSTRAINT kept_units_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (order_id)
    )
    """,
    # An attempt is dead where its work was cancelled for that.
    """
    INSERT INTO orders (order_id, closed_attempt)
    SELECT f.order_id, coalesce(max(f.attempt) FILTER (WHERE h.reason = 'ORDER_CANCELLED'), 0)
    FROM fulfillments f LEFT JOIN history h ON h.fulfillment_id = f.id AND h.new = 'cancelled'
    GROUP BY f.order_id
    """,
    """
    ALTER TABLE picklist_lines
        ADD COLUMN cut INTEGER NOT NULL DEFAULT 0 CONSTRAINT picklist_lines_cut CHECK (cut >= 0),
        ADD COLUMN short INTEGER NOT NULL DEFAULT 0 CONSTRAINT picklist_lines_short CHECK (short >= 0),
        ADD COLUMN spoiled INTEGER NOT NULL DEFAULT 0 CONSTRAINT picklist_lines_spoiled CHECK (spoiled >= 0),
        DROP CONSTRAINT picklist_lines_quantity,
        ADD CONSTRAINT picklist_lines_quantity CHECK (quantity between 0 and 1000000)
    """,
    # What was cancelled keeps no unit and no package: its units went back to the shelf.
    (
        "DELETE FROM packages USING fulfillments f WHERE f.id = fulfillment_id AND f.status ="
        " 'cancelled'"
    ),
    """
    UPDATE picklist_lines SET cut = quantity, quantity = 0, picked = 0
    FROM fulfillments f WHERE f.id = fulfillment_id AND f.status = 'cancelled'
    """,
)


def upgrade() -> None:
    for step in STEPS:
        op.execute(step)
