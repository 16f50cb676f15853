"""The order service's first tables."""

from alembic import op

from chassis.migration import create_chassis_tables_v1

revision = "0001"
down_revision = None

TABLES = (
    (
        "CREATE TYPE order_status AS ENUM ('pending', 'confirmed', 'processing', 'shipped',"
        " 'delivered', 'cancelled', 'refunded', 'failed')"
    ),
    (
        "CREATE TYPE payment_status AS ENUM ('not_required', 'pending', 'completed', 'failed',"
        " 'cancelled', 'partially_refunded', 'refunded')"
    ),
    (
        "CREATE TYPE fulfillment_progress AS ENUM ('unfulfilled', 'partially_shipped', 'shipped',"
        " 'partially_delivered', 'delivered', 'cancelled')"
    ),
    (
        "CREATE TYPE stock_status AS ENUM ('reserved', 'committed', 'owed', 'deducted', 'released',"
        " 'returned')"
    ),
    "CREATE TYPE return_progress AS ENUM ('none', 'open', 'partial', 'full')",
    (
        "CREATE TYPE fulfillment_work AS ENUM ('expected', 'pending', 'planning', 'picking',"
        " 'picked', 'packing', 'packed', 'ready', 'shipped', 'completed', 'cancelled')"
    ),
    """
    CREATE TABLE orders (
        id UUID NOT NULL,
        number TEXT NOT NULL,
        checkout TEXT NOT NULL,
        customer_id TEXT,
        external_reference TEXT,
        status order_status NOT NULL,
        reason TEXT NOT NULL,
        attempt INTEGER NOT NULL CONSTRAINT orders_attempt CHECK (attempt >= 1),
        version INTEGER NOT NULL CONSTRAINT orders_version CHECK (version >= 1),
        payment payment_status NOT NULL,
        progress fulfillment_progress NOT NULL,
        stock stock_status NOT NULL,
        returns return_progress NOT NULL,
        currency TEXT NOT NULL CONSTRAINT orders_currency CHECK (currency ~ '^[A-Z]{3}$'),
        shipping BIGINT NOT NULL CONSTRAINT orders_shipping CHECK (shipping >= 0),
        refunded BIGINT NOT NULL CONSTRAINT orders_refunded CHECK (refunded >= 0),
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        expire_time TIMESTAMP WITH TIME ZONE,
        CONSTRAINT orders_pkey PRIMARY KEY (id),
        CONSTRAINT orders_expire_time_while_pending CHECK ((status = 'pending') = (expire_time is not null)),
        CONSTRAINT orders_number_key UNIQUE (number),
        CONSTRAINT orders_checkout_key UNIQUE (checkout)
    )
    """,
    "CREATE INDEX orders_customer_id_id ON orders (customer_id, id) WHERE customer_id IS NOT NULL",
    "CREATE INDEX orders_expire_time ON orders (expire_time) WHERE status = 'pending'",
    (
        "CREATE INDEX orders_external_reference_id ON orders (external_reference, id) WHERE"
        " external_reference IS NOT NULL"
    ),
    "CREATE INDEX orders_owed ON orders (id) WHERE stock = 'owed'",
    "CREATE INDEX orders_status_id ON orders (status, id)",
    """
    CREATE TABLE order_lines (
        order_id UUID NOT NULL,
        number SMALLINT NOT NULL CONSTRAINT order_lines_number CHECK (number between 1 and 500),
        sku TEXT NOT NULL,
        quantity INTEGER NOT NULL CONSTRAINT order_lines_quantity CHECK (quantity between 1 and 1000000),
        cancelled INTEGER NOT NULL,
        unit_price BIGINT NOT NULL CONSTRAINT order_lines_unit_price CHECK (unit_price >= 0),
        discount BIGINT NOT NULL,
        tax BIGINT NOT NULL CONSTRAINT order_lines_tax CHECK (tax >= 0),
        CONSTRAINT order_lines_pkey PRIMARY KEY (order_id, number),
        CONSTRAINT order_lines_cancelled CHECK (cancelled between 0 and quantity),
        CONSTRAINT order_lines_discount CHECK (discount between 0 and unit_price * quantity),
        CONSTRAINT order_lines_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
    """
    CREATE TABLE allocations (
        order_id UUID NOT NULL,
        line_number SMALLINT NOT NULL,
        warehouse_id TEXT NOT NULL,
        reservation_id UUID NOT NULL,
        quantity INTEGER NOT NULL CONSTRAINT allocations_quantity CHECK (quantity >= 1),
        CONSTRAINT allocations_pkey PRIMARY KEY (order_id, line_number, warehouse_id),
        CONSTRAINT allocations_order_id_line_number_fkey FOREIGN KEY(order_id, line_number) REFERENCES order_lines (order_id, number)
    )
    """,
    """
    CREATE TABLE parts (
        order_id UUID NOT NULL,
        attempt INTEGER NOT NULL,
        warehouse_id TEXT NOT NULL,
        fulfillment_id UUID,
        version INTEGER NOT NULL,
        work fulfillment_work NOT NULL,
        shipment_id UUID,
        tracking_number TEXT,
        deliver_time TIMESTAMP WITH TIME ZONE,
        CONSTRAINT parts_pkey PRIMARY KEY (order_id, attempt, warehouse_id),
        CONSTRAINT parts_shipped_before_delivered CHECK (shipment_id is not null or deliver_time is null),
        CONSTRAINT parts_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
    """
    CREATE TABLE history (
        order_id UUID NOT NULL,
        version INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        "old" order_status,
        "new" order_status NOT NULL,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        cause TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT history_pkey PRIMARY KEY (order_id, version),
        CONSTRAINT history_order_id_cause_new_key UNIQUE (order_id, cause, "new"),
        CONSTRAINT history_creation CHECK ((old is null) = (version = 1)),
        CONSTRAINT history_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
    """
    CREATE TABLE recipients (
        order_id UUID NOT NULL,
        name TEXT NOT NULL,
        address_lines TEXT[] NOT NULL,
        locality TEXT NOT NULL,
        administrative_area TEXT NOT NULL,
        postal_code TEXT NOT NULL,
        country_code TEXT NOT NULL,
        email TEXT NOT NULL,
        phone TEXT NOT NULL,
        CONSTRAINT recipients_pkey PRIMARY KEY (order_id),
        CONSTRAINT recipients_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
    "COMMENT ON TABLE recipients IS 'The only place in the system that knows names and addresses.'",
)


def upgrade() -> None:
    create_chassis_tables_v1()
    for statement in TABLES:
        op.execute(statement)
