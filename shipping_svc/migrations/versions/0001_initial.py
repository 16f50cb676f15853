"""The tables of the shipping service."""

from alembic import op

from chassis.write.migration import create_shared_tables_v1

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TYPE shipment_status AS ENUM (
    'pending', 'created', 'in_transit', 'out_for_delivery', 'delivery_failed', 'delivered', 'lost',
    'returned_to_sender', 'failed', 'voided'
);

CREATE TABLE shipments (
    id uuid CONSTRAINT shipments_pkey PRIMARY KEY,
    order_id uuid NOT NULL,
    attempt integer NOT NULL CONSTRAINT shipments_attempt CHECK (attempt >= 1),
    fulfillment_id uuid NOT NULL,
    warehouse_id text NOT NULL,
    status shipment_status NOT NULL,
    reason text NOT NULL,
    carrier text NOT NULL,
    carrier_code text,
    tracking_number text,
    version integer NOT NULL CONSTRAINT shipments_version CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    report_time timestamptz,
    deliver_time timestamptz,
    recall_time timestamptz,
    fulfillment_version bigint NOT NULL DEFAULT 0
        CONSTRAINT shipments_fulfillment_version CHECK (fulfillment_version >= 0),
    purchase integer NOT NULL DEFAULT 0 CONSTRAINT shipments_purchase CHECK (purchase >= 0),
    withdraw_version bigint CONSTRAINT shipments_withdraw_version CHECK (withdraw_version >= 1),
    contradict_time timestamptz,
    CONSTRAINT shipments_tracking_number_with_label
        CHECK ((tracking_number IS NULL) = (status IN ('pending', 'failed'))),
    CONSTRAINT shipments_report_time_with_report
        CHECK ((report_time IS NULL) = (status IN ('pending', 'created', 'failed', 'voided'))),
    CONSTRAINT shipments_deliver_time_with_delivery
        CHECK ((deliver_time IS NOT NULL) = (status = 'delivered')),
    CONSTRAINT shipments_carrier_code_with_refusal
        CHECK (carrier_code IS NULL OR status = 'failed'),
    CONSTRAINT shipments_recall_time_with_label
        CHECK (recall_time IS NULL OR status NOT IN ('pending', 'failed')),
    CONSTRAINT shipments_void_requested
        CHECK (recall_time IS NOT NULL OR withdraw_version IS NOT NULL OR status <> 'voided'),
    CONSTRAINT shipments_contradict_time_with_void
        CHECK (contradict_time IS NULL OR status = 'voided')
);
CREATE INDEX shipments_fulfillment_id ON shipments (fulfillment_id);
CREATE UNIQUE INDEX shipments_live_tracking_number_key ON shipments (carrier, tracking_number)
    WHERE status IN ('created', 'delivery_failed', 'in_transit', 'out_for_delivery');
CREATE INDEX shipments_order_id_id ON shipments (order_id, id);
CREATE UNIQUE INDEX shipments_valid_fulfillment_key ON shipments (fulfillment_id)
    WHERE status NOT IN ('failed', 'voided');
CREATE INDEX shipments_status_id ON shipments (status, id);
CREATE INDEX shipments_tracking_number ON shipments (tracking_number);
CREATE INDEX shipments_update_time ON shipments (update_time);

CREATE TABLE parcels (
    shipment_id uuid CONSTRAINT parcels_shipment_id_fkey REFERENCES shipments (id),
    number smallint CONSTRAINT parcels_number CHECK (number BETWEEN 1 AND 100),
    weight_grams integer NOT NULL
        CONSTRAINT parcels_weight CHECK (weight_grams BETWEEN 1 AND 1000000),
    length_mm integer NOT NULL CONSTRAINT parcels_length CHECK (length_mm BETWEEN 1 AND 10000),
    width_mm integer NOT NULL CONSTRAINT parcels_width CHECK (width_mm BETWEEN 1 AND 10000),
    height_mm integer NOT NULL CONSTRAINT parcels_height CHECK (height_mm BETWEEN 1 AND 10000),
    CONSTRAINT parcels_pkey PRIMARY KEY (shipment_id, number)
);

CREATE TABLE labels (
    shipment_id uuid
        CONSTRAINT labels_pkey PRIMARY KEY
        CONSTRAINT labels_shipment_id_fkey REFERENCES shipments (id),
    content bytea NOT NULL
        CONSTRAINT labels_content CHECK (octet_length(content) BETWEEN 1 AND 5242880),
    content_type text NOT NULL
);
COMMENT ON TABLE labels IS
    'Labels show names and addresses: the only place in this database that does.';

CREATE TABLE label_tries (
    shipment_id uuid
        CONSTRAINT label_tries_pkey PRIMARY KEY
        CONSTRAINT label_tries_shipment_id_fkey REFERENCES shipments (id),
    tries integer NOT NULL CONSTRAINT label_tries_tries CHECK (tries >= 1),
    try_time timestamptz NOT NULL
);
CREATE INDEX label_tries_try_time ON label_tries (try_time);
COMMENT ON TABLE label_tries IS
    'Shipments whose label is still to be bought: how often that was begun, and when last. The '
    'row goes when it is settled.';

CREATE TABLE recall_tries (
    shipment_id uuid CONSTRAINT recall_tries_shipment_id_fkey REFERENCES shipments (id),
    purchase integer DEFAULT 0 CONSTRAINT recall_tries_purchase CHECK (purchase >= 0),
    tracking_number text,
    open_time timestamptz NOT NULL,
    tries integer NOT NULL CONSTRAINT recall_tries_tries CHECK (tries >= 1),
    try_time timestamptz NOT NULL,
    bring_back boolean NOT NULL DEFAULT true,
    CONSTRAINT recall_tries_pkey PRIMARY KEY (shipment_id, purchase)
);
CREATE INDEX recall_tries_try_time ON recall_tries (try_time);
COMMENT ON TABLE recall_tries IS
    'Labels that the carrier is to be asked to take back: how often that was begun, and when '
    'last. The row goes when it answers.';

CREATE TABLE history (
    shipment_id uuid CONSTRAINT history_shipment_id_fkey REFERENCES shipments (id),
    version integer,
    old shipment_status,
    new shipment_status NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    cause text NOT NULL,
    time timestamptz NOT NULL,
    claimed_actor text,
    note text,
    CONSTRAINT history_pkey PRIMARY KEY (shipment_id, version),
    CONSTRAINT history_shipment_id_cause_new_key UNIQUE (shipment_id, cause, new),
    CONSTRAINT history_creation CHECK ((old IS NULL) = (version = 1))
);

CREATE TABLE tracking_events (
    shipment_id uuid CONSTRAINT tracking_events_shipment_id_fkey REFERENCES shipments (id),
    carrier_event_id text,
    status shipment_status NOT NULL
        CONSTRAINT tracking_events_status
            CHECK (status NOT IN ('pending', 'created', 'failed', 'voided')),
    occur_time timestamptz NOT NULL,
    location text NOT NULL,
    record_time timestamptz NOT NULL,
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    claimed_actor text,
    note text,
    CONSTRAINT tracking_events_pkey PRIMARY KEY (shipment_id, carrier_event_id)
);
CREATE INDEX tracking_events_shipment_id_sequence ON tracking_events (shipment_id, sequence);

CREATE TABLE closed_orders (
    order_id uuid CONSTRAINT closed_orders_pkey PRIMARY KEY,
    attempt integer NOT NULL CONSTRAINT closed_orders_attempt CHECK (attempt >= 1),
    status text NOT NULL CONSTRAINT closed_orders_status CHECK (status IN ('cancelled', 'failed')),
    version integer NOT NULL CONSTRAINT closed_orders_version CHECK (version >= 1),
    close_time timestamptz NOT NULL
);

CREATE TABLE closed_fulfillments (
    fulfillment_id uuid CONSTRAINT closed_fulfillments_pkey PRIMARY KEY,
    version integer NOT NULL CONSTRAINT closed_fulfillments_version CHECK (version >= 1),
    close_time timestamptz NOT NULL
);
"""


def upgrade() -> None:
    create_shared_tables_v1()
    op.execute(SCHEMA)
