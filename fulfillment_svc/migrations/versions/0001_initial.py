"""The fulfilment service's first tables."""

from alembic import op

from chassis.migration import create_chassis_tables_v1

revision = "0001"
down_revision = None

TABLES = (
    (
        "CREATE TYPE fulfillment_status AS ENUM ('pending', 'planning', 'picking', 'picked',"
        " 'packing', 'packed', 'ready', 'shipped', 'completed', 'cancelled')"
    ),
    "CREATE TYPE inspection_rule AS ENUM ('order_value', 'sku', 'sample')",
    """
    CREATE TABLE fulfillments (
        id UUID NOT NULL,
        order_id UUID NOT NULL,
        warehouse_id TEXT NOT NULL,
        attempt INTEGER NOT NULL CONSTRAINT fulfillments_attempt CHECK (attempt >= 1),
        order_number TEXT NOT NULL,
        status fulfillment_status NOT NULL,
        stock_committed BOOLEAN NOT NULL,
        inspection_rule inspection_rule,
        shipment_id UUID,
        version INTEGER NOT NULL CONSTRAINT fulfillments_version CHECK (version >= 1),
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT fulfillments_pkey PRIMARY KEY (id),
        CONSTRAINT fulfillments_order_id_warehouse_id_attempt_key UNIQUE (order_id, warehouse_id, attempt),
        CONSTRAINT fulfillments_stock_committed_before_picking CHECK (stock_committed or status in ('pending', 'planning', 'cancelled')),
        CONSTRAINT fulfillments_shipment_id_once_shipped CHECK ((shipment_id is not null) = (status in ('shipped', 'completed')))
    )
    """,
    (
        "CREATE INDEX fulfillments_owed ON fulfillments (id) WHERE status = 'planning' AND NOT"
        " stock_committed"
    ),
    "CREATE INDEX fulfillments_status_id ON fulfillments (status, id)",
    "CREATE INDEX fulfillments_warehouse_id_id ON fulfillments (warehouse_id, id)",
    """
    CREATE TABLE picklist_lines (
        fulfillment_id UUID NOT NULL,
        line_number SMALLINT NOT NULL CONSTRAINT picklist_lines_line_number CHECK (line_number between 1 and 500),
        sku TEXT NOT NULL,
        quantity INTEGER NOT NULL CONSTRAINT picklist_lines_quantity CHECK (quantity between 1 and 1000000),
        picked INTEGER NOT NULL,
        CONSTRAINT picklist_lines_pkey PRIMARY KEY (fulfillment_id, line_number),
        CONSTRAINT picklist_lines_picked CHECK (picked between 0 and quantity),
        CONSTRAINT picklist_lines_fulfillment_id_fkey FOREIGN KEY(fulfillment_id) REFERENCES fulfillments (id)
    )
    """,
    """
    CREATE TABLE packages (
        fulfillment_id UUID NOT NULL,
        number SMALLINT NOT NULL CONSTRAINT packages_number CHECK (number between 1 and 100),
        weight_grams INTEGER NOT NULL CONSTRAINT packages_weight_grams CHECK (weight_grams >= 1),
        length_mm INTEGER NOT NULL CONSTRAINT packages_length_mm CHECK (length_mm >= 1),
        width_mm INTEGER NOT NULL CONSTRAINT packages_width_mm CHECK (width_mm >= 1),
        height_mm INTEGER NOT NULL CONSTRAINT packages_height_mm CHECK (height_mm >= 1),
        CONSTRAINT packages_pkey PRIMARY KEY (fulfillment_id, number),
        CONSTRAINT packages_fulfillment_id_fkey FOREIGN KEY(fulfillment_id) REFERENCES fulfillments (id)
    )
    """,
    """
    CREATE TABLE packed_items (
        fulfillment_id UUID NOT NULL,
        package_number SMALLINT NOT NULL,
        line_number SMALLINT NOT NULL,
        quantity INTEGER NOT NULL CONSTRAINT packed_items_quantity CHECK (quantity >= 1),
        CONSTRAINT packed_items_pkey PRIMARY KEY (fulfillment_id, package_number, line_number),
        CONSTRAINT packed_items_fulfillment_id_package_number_fkey FOREIGN KEY(fulfillment_id, package_number)
            REFERENCES packages (fulfillment_id, number) ON DELETE CASCADE,
        CONSTRAINT packed_items_fulfillment_id_line_number_fkey FOREIGN KEY(fulfillment_id, line_number)
            REFERENCES picklist_lines (fulfillment_id, line_number)
    )
    """,
    """
    CREATE TABLE history (
        fulfillment_id UUID NOT NULL,
        version INTEGER NOT NULL,
        "old" fulfillment_status,
        "new" fulfillment_status NOT NULL,
        reason TEXT NOT NULL,
        note TEXT NOT NULL,
        actor TEXT NOT NULL,
        cause TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT history_pkey PRIMARY KEY (fulfillment_id, version),
        CONSTRAINT history_fulfillment_id_cause_new_key UNIQUE (fulfillment_id, cause, "new"),
        CONSTRAINT history_creation CHECK ((old is null) = (version = 1)),
        CONSTRAINT history_fulfillment_id_fkey FOREIGN KEY(fulfillment_id) REFERENCES fulfillments (id)
    )
    """,
)


def upgrade() -> None:
    create_chassis_tables_v1()
    for statement in TABLES:
        op.execute(statement)
