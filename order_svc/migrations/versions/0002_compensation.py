"""What undoes things: cancelled units, money that goes back, parcels that end elsewhere, what is
told of orders that have ended.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "ALTER TABLE orders ADD COLUMN captured BIGINT NOT NULL DEFAULT 0",
    """
    UPDATE orders SET captured = shipping + (
        SELECT sum(unit_price * quantity - discount + tax) FROM order_lines WHERE order_lines.order_id = orders.id
    ) WHERE payment = 'completed'
    """,
    "ALTER TABLE orders ADD CONSTRAINT orders_captured CHECK (captured >= refunded)",
    "ALTER TABLE allocations DROP CONSTRAINT allocations_quantity",
    "ALTER TABLE allocations ADD CONSTRAINT allocations_quantity CHECK (quantity >= 0)",
    (
        "ALTER TABLE allocations ADD COLUMN shipped INTEGER CONSTRAINT allocations_shipped CHECK"
        " (shipped >= 0)"
    ),
    """
    UPDATE allocations SET shipped = quantity FROM parts, orders
    WHERE orders.id = allocations.order_id AND parts.order_id = orders.id AND parts.attempt = orders.attempt
        AND parts.warehouse_id = allocations.warehouse_id AND parts.work IN ('shipped', 'completed')
    """,
    "CREATE TYPE shipment_end AS ENUM ('lost', 'returned', 'voided')",
    "ALTER TABLE parts ADD COLUMN ended shipment_end",
    (
        "ALTER TABLE parts ADD CONSTRAINT parts_ended CHECK (ended is null or (shipment_id is not"
        " null and deliver_time is null))"
    ),
    (
        "ALTER TABLE history ADD CONSTRAINT history_order_id_cause_old_new_key UNIQUE (order_id,"
        ' cause, "old", "new")'
    ),
    "ALTER TABLE history DROP CONSTRAINT history_order_id_cause_new_key",
    """
    CREATE TABLE late_events (
        order_id UUID NOT NULL,
        cause TEXT NOT NULL,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT late_events_pkey PRIMARY KEY (order_id, cause),
        CONSTRAINT late_events_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
