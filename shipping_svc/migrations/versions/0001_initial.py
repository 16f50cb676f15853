"""Shipments, their parcels, labels, history and tracking, and the orders that nothing is shipped
for.
"""

from alembic import op

from chassis.migration import create_chassis_tables_v1

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TYPE shipment_status AS ENUM (
        'pending', 'created', 'in_transit', 'out_for_delivery', 'delivery_failed', 'delivered', 'lost', 'returned_to_sender', 'failed'
    )
    """,
    """
    CREATE TABLE shipments (
        id uuid CONSTRAINT shipments_pkey PRIMARY KEY,
        order_id uuid NOT NULL,
        attempt integer NOT NULL CONSTRAINT shipments_attempt CHECK (attempt >= 1),
        fulfillment_id uuid NOT NULL CONSTRAINT shipments_fulfillment_id_key UNIQUE,
        warehouse_id text NOT NULL,
        status shipment_status NOT NULL,
        reason text NOT NULL,
        carrier text NOT NULL,
        carrier_code text,
        tracking_number text CONSTRAINT shipments_tracking_number_key UNIQUE,
        version integer NOT NULL CONSTRAINT shipments_version CHECK (version >= 1),
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        report_time timestamptz,
        deliver_time timestamptz,
        CONSTRAINT shipments_tracking_number_with_label CHECK ((tracking_number is null) = (status in ('pending', 'failed'))),
        CONSTRAINT shipments_report_time_with_report CHECK ((report_time is null) = (status in ('pending', 'created', 'failed'))),
        CONSTRAINT shipments_deliver_time_with_delivery CHECK ((deliver_time is not null) = (status = 'delivered')),
        CONSTRAINT shipments_carrier_code_with_refusal CHECK (carrier_code is null or status = 'failed')
    )
    """,
    "CREATE INDEX shipments_order_id_id ON shipments (order_id, id)",
    "CREATE INDEX shipments_status_id ON shipments (status, id)",
    """
    CREATE TABLE parcels (
        shipment_id uuid CONSTRAINT parcels_shipment_id_fkey REFERENCES shipments,
        number smallint CONSTRAINT parcels_number CHECK (number between 1 and 100),
        weight_grams integer NOT NULL CONSTRAINT parcels_weight CHECK (weight_grams between 1 and 1000000),
        length_mm integer NOT NULL CONSTRAINT parcels_length CHECK (length_mm between 1 and 10000),
        width_mm integer NOT NULL CONSTRAINT parcels_width CHECK (width_mm between 1 and 10000),
        height_mm integer NOT NULL CONSTRAINT parcels_height CHECK (height_mm between 1 and 10000),
        CONSTRAINT parcels_pkey PRIMARY KEY (shipment_id, number)
    )
    """,
    """
    CREATE TABLE labels (
        shipment_id uuid CONSTRAINT labels_pkey PRIMARY KEY CONSTRAINT labels_shipment_id_fkey REFERENCES shipments,
        content bytea NOT NULL CONSTRAINT labels_content CHECK (octet_length(content) between 1 and 5242880),
        content_type text NOT NULL
    )
    """,
    (
        "COMMENT ON TABLE labels IS 'Labels show names and addresses: the only place in this"
        " database that does.'"
    ),
    """
    CREATE TABLE label_tries (
        shipment_id uuid CONSTRAINT label_tries_pkey PRIMARY KEY CONSTRAINT label_tries_shipment_id_fkey REFERENCES shipments,
        tries integer NOT NULL CONSTRAINT label_tries_tries CHECK (tries >= 1),
        try_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX label_tries_try_time ON label_tries (try_time)",
    """
    COMMENT ON TABLE label_tries IS
        'Shipments whose label is still to be bought: how often that was begun, and when last. The row goes when it is settled.'
    """,
    """
    CREATE TABLE history (
        shipment_id uuid CONSTRAINT history_shipment_id_fkey REFERENCES shipments,
        version integer,
        old shipment_status,
        new shipment_status NOT NULL,
        reason text NOT NULL,
        actor text NOT NULL,
        cause text NOT NULL,
        time timestamptz NOT NULL,
        CONSTRAINT history_pkey PRIMARY KEY (shipment_id, version),
        CONSTRAINT history_shipment_id_cause_new_key UNIQUE (shipment_id, cause, new),
        CONSTRAINT history_creation CHECK ((old is null) = (version = 1))
    )
    """,
    """
    CREATE TABLE tracking_events (
        shipment_id uuid CONSTRAINT tracking_events_shipment_id_fkey REFERENCES shipments,
        carrier_event_id text,
        status shipment_status NOT NULL CONSTRAINT tracking_events_status CHECK (status not in ('pending', 'created', 'failed')),
        occur_time timestamptz NOT NULL,
        location text NOT NULL,
        record_time timestamptz NOT NULL,
        sequence bigint GENERATED ALWAYS AS IDENTITY,
        CONSTRAINT tracking_events_pkey PRIMARY KEY (shipment_id, carrier_event_id)
    )
    """,
    "CREATE INDEX tracking_events_shipment_id_sequence ON tracking_events (shipment_id, sequence)",
    """
    CREATE TABLE dead_orders (
        order_id uuid CONSTRAINT dead_orders_pkey PRIMARY KEY,
        attempt integer NOT NULL CONSTRAINT dead_orders_attempt CHECK (attempt >= 1),
        status text NOT NULL CONSTRAINT dead_orders_status CHECK (status in ('cancelled', 'failed')),
        version integer NOT NULL CONSTRAINT dead_orders_version CHECK (version >= 1),
        dead_time timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    create_chassis_tables_v1()
    for statement in TABLES:
        op.execute(statement)
