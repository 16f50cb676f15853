"""The tables of the fulfilment service."""

from alembic import op

from chassis.write.migration import create_shared_tables_v1

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TYPE fulfillment_status AS ENUM (
    'pending', 'planning', 'picking', 'picked', 'packing', 'packed', 'ready', 'shipped',
    'completed', 'cancelled'
);
CREATE TYPE inspection_rule AS ENUM ('order_value', 'sku', 'sample');
CREATE TYPE withdraw_reason AS ENUM (
    'UNITS_CUT', 'ORDER_CANCELLED', 'CANCEL_REQUESTED', 'INSPECTION_FAILED'
);

CREATE TABLE orders (
    order_id uuid CONSTRAINT orders_pkey PRIMARY KEY,
    closed_attempt integer NOT NULL CONSTRAINT orders_closed_attempt CHECK (closed_attempt >= 0),
    remaining_attempt integer,
    remaining_version bigint,
    CONSTRAINT orders_remaining
        CHECK ((remaining_attempt IS NULL) = (remaining_version IS NULL))
);

CREATE TABLE remaining_units (
    order_id uuid CONSTRAINT remaining_units_order_id_fkey REFERENCES orders (order_id),
    warehouse_id text,
    line_number smallint
        CONSTRAINT remaining_units_line_number CHECK (line_number BETWEEN 1 AND 500),
    quantity integer NOT NULL
        CONSTRAINT remaining_units_quantity CHECK (quantity BETWEEN 1 AND 1000000),
    CONSTRAINT remaining_units_pkey PRIMARY KEY (order_id, warehouse_id, line_number)
);

CREATE TABLE fulfillments (
    id uuid CONSTRAINT fulfillments_pkey PRIMARY KEY,
    order_id uuid NOT NULL,
    warehouse_id text NOT NULL,
    attempt integer NOT NULL CONSTRAINT fulfillments_attempt CHECK (attempt >= 1),
    order_number text NOT NULL,
    status fulfillment_status NOT NULL,
    stock_committed boolean NOT NULL,
    inspection_rule inspection_rule,
    shipment_id uuid,
    version integer NOT NULL CONSTRAINT fulfillments_version CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    withdraw_reason withdraw_reason,
    withdrawn_version integer NOT NULL
        CONSTRAINT fulfillments_withdrawn_version CHECK (withdrawn_version BETWEEN 0 AND version),
    CONSTRAINT fulfillments_order_id_warehouse_id_attempt_key
        UNIQUE (order_id, warehouse_id, attempt),
    CONSTRAINT fulfillments_stock_committed_before_picking
        CHECK (stock_committed OR status IN ('pending', 'planning', 'cancelled')),
    CONSTRAINT fulfillments_shipment_id_once_shipped
        CHECK (shipment_id IS NOT NULL OR status NOT IN ('shipped', 'completed')),
    CONSTRAINT fulfillments_no_shipment_before_ready
        CHECK (shipment_id IS NULL OR status IN ('ready', 'shipped', 'completed')),
    CONSTRAINT fulfillments_withdraw_reason_while_ready
        CHECK (withdraw_reason IS NULL OR status = 'ready')
);
CREATE INDEX fulfillments_commit_pending ON fulfillments (id)
    WHERE status = 'planning' AND NOT stock_committed;
CREATE INDEX fulfillments_status_id ON fulfillments (status, id);
CREATE INDEX fulfillments_update_time ON fulfillments (update_time);
CREATE INDEX fulfillments_warehouse_id_id ON fulfillments (warehouse_id, id);

CREATE TABLE picklist_lines (
    fulfillment_id uuid CONSTRAINT picklist_lines_fulfillment_id_fkey REFERENCES fulfillments (id),
    line_number smallint
        CONSTRAINT picklist_lines_line_number CHECK (line_number BETWEEN 1 AND 500),
    sku text NOT NULL,
    quantity integer NOT NULL
        CONSTRAINT picklist_lines_quantity CHECK (quantity BETWEEN 0 AND 1000000),
    picked integer NOT NULL,
    cut integer NOT NULL CONSTRAINT picklist_lines_cut CHECK (cut >= 0),
    short integer NOT NULL CONSTRAINT picklist_lines_short CHECK (short >= 0),
    spoiled integer NOT NULL CONSTRAINT picklist_lines_spoiled CHECK (spoiled >= 0),
    found_spoiled integer NOT NULL
        CONSTRAINT picklist_lines_found_spoiled CHECK (found_spoiled >= 0),
    CONSTRAINT picklist_lines_pkey PRIMARY KEY (fulfillment_id, line_number),
    CONSTRAINT picklist_lines_picked CHECK (picked BETWEEN 0 AND quantity)
);

CREATE TABLE packages (
    fulfillment_id uuid CONSTRAINT packages_fulfillment_id_fkey REFERENCES fulfillments (id),
    number smallint CONSTRAINT packages_number CHECK (number BETWEEN 1 AND 100),
    weight_grams integer NOT NULL CONSTRAINT packages_weight_grams CHECK (weight_grams >= 1),
    length_mm integer NOT NULL CONSTRAINT packages_length_mm CHECK (length_mm >= 1),
    width_mm integer NOT NULL CONSTRAINT packages_width_mm CHECK (width_mm >= 1),
    height_mm integer NOT NULL CONSTRAINT packages_height_mm CHECK (height_mm >= 1),
    CONSTRAINT packages_pkey PRIMARY KEY (fulfillment_id, number)
);

CREATE TABLE packed_items (
    fulfillment_id uuid,
    package_number smallint,
    line_number smallint,
    quantity integer NOT NULL CONSTRAINT packed_items_quantity CHECK (quantity >= 1),
    CONSTRAINT packed_items_pkey PRIMARY KEY (fulfillment_id, package_number, line_number),
    CONSTRAINT packed_items_fulfillment_id_package_number_fkey
        FOREIGN KEY (fulfillment_id, package_number)
        REFERENCES packages (fulfillment_id, number) ON DELETE CASCADE,
    CONSTRAINT packed_items_fulfillment_id_line_number_fkey
        FOREIGN KEY (fulfillment_id, line_number)
        REFERENCES picklist_lines (fulfillment_id, line_number)
);

CREATE TABLE void_labels (
    fulfillment_id uuid CONSTRAINT void_labels_fulfillment_id_fkey REFERENCES fulfillments (id),
    shipment_id uuid,
    line_number smallint,
    quantity integer NOT NULL CONSTRAINT void_labels_quantity CHECK (quantity >= 1),
    shipped boolean NOT NULL,
    CONSTRAINT void_labels_pkey PRIMARY KEY (fulfillment_id, shipment_id, line_number)
);

CREATE TABLE history (
    fulfillment_id uuid CONSTRAINT history_fulfillment_id_fkey REFERENCES fulfillments (id),
    version integer,
    old fulfillment_status,
    new fulfillment_status NOT NULL,
    reason text NOT NULL,
    note text,
    actor text NOT NULL,
    cause text NOT NULL,
    time timestamptz NOT NULL,
    claimed_actor text,
    CONSTRAINT history_pkey PRIMARY KEY (fulfillment_id, version),
    CONSTRAINT history_fulfillment_id_cause_new_key UNIQUE (fulfillment_id, cause, new),
    CONSTRAINT history_creation CHECK ((old IS NULL) = (version = 1))
);
"""


def upgrade() -> None:
    create_shared_tables_v1()
    op.execute(SCHEMA)
