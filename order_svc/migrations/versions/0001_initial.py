"""The tables of the order service."""

from alembic import op

from chassis.write.migration import create_shared_tables_v1

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TYPE order_status AS ENUM (
    'pending', 'confirmed', 'processing', 'shipped', 'delivered', 'cancelled', 'refunded', 'failed'
);
CREATE TYPE payment_outcome AS ENUM ('none', 'captured', 'not_required', 'declined');
CREATE TYPE stock_commit AS ENUM ('none', 'pending', 'committed', 'refused', 'freed');
CREATE TYPE payment_status AS ENUM (
    'not_required', 'pending', 'completed', 'failed', 'cancelled', 'partially_refunded', 'refunded'
);
CREATE TYPE fulfillment_progress AS ENUM (
    'unfulfilled', 'partially_shipped', 'shipped', 'partially_delivered', 'delivered', 'cancelled'
);
CREATE TYPE stock_status AS ENUM (
    'reserved', 'committed', 'commit_pending', 'deducted', 'released', 'returned'
);
CREATE TYPE return_progress AS ENUM ('none', 'open', 'partial', 'full');
CREATE TYPE fulfillment_state AS ENUM (
    'expected', 'pending', 'planning', 'picking', 'picked', 'packing', 'packed', 'ready',
    'shipped', 'completed', 'cancelled'
);
CREATE TYPE shipment_outcome AS ENUM ('lost', 'returned', 'voided');
CREATE TYPE return_kind AS ENUM ('customer', 'recall', 'without_goods');
CREATE TYPE return_status AS ENUM (
    'requested', 'approved', 'rejected', 'in_transit', 'received', 'inspected', 'refunded',
    'closed', 'cancelled'
);

CREATE TABLE orders (
    id uuid CONSTRAINT orders_pkey PRIMARY KEY,
    number text NOT NULL CONSTRAINT orders_number_key UNIQUE,
    checkout_key text NOT NULL CONSTRAINT orders_checkout_key_key UNIQUE,
    customer_id text,
    external_reference text,
    status order_status NOT NULL,
    reason text NOT NULL,
    attempt integer NOT NULL CONSTRAINT orders_attempt CHECK (attempt >= 1),
    version integer NOT NULL CONSTRAINT orders_version CHECK (version >= 1),
    payment_outcome payment_outcome NOT NULL,
    commit stock_commit NOT NULL,
    payment payment_status NOT NULL,
    progress fulfillment_progress NOT NULL,
    stock stock_status NOT NULL,
    return_progress return_progress NOT NULL,
    currency text NOT NULL CONSTRAINT orders_currency CHECK (currency ~ '^[A-Z]{3}$'),
    shipping bigint NOT NULL CONSTRAINT orders_shipping CHECK (shipping >= 0),
    captured bigint NOT NULL DEFAULT 0,
    refunded bigint NOT NULL CONSTRAINT orders_refunded CHECK (refunded >= 0),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    expire_time timestamptz,
    has_returns boolean NOT NULL DEFAULT false,
    unique_external_reference boolean NOT NULL DEFAULT false,
    CONSTRAINT orders_expire_time_while_pending
        CHECK ((status = 'pending') = (expire_time IS NOT NULL)),
    CONSTRAINT orders_captured CHECK (captured >= refunded)
);
CREATE INDEX orders_customer_id_id ON orders (customer_id, id) WHERE customer_id IS NOT NULL;
CREATE INDEX orders_expire_time ON orders (expire_time) WHERE status = 'pending';
CREATE INDEX orders_external_reference_id ON orders (external_reference, id)
    WHERE external_reference IS NOT NULL;
CREATE INDEX orders_commit_pending ON orders (id) WHERE stock = 'commit_pending';
CREATE INDEX orders_status_id ON orders (status, id);
CREATE UNIQUE INDEX orders_unique_external_reference ON orders (customer_id, external_reference)
    NULLS NOT DISTINCT
    WHERE unique_external_reference AND status NOT IN ('cancelled', 'failed');
CREATE INDEX orders_update_time ON orders (update_time);

CREATE TABLE order_lines (
    order_id uuid CONSTRAINT order_lines_order_id_fkey REFERENCES orders (id),
    number smallint CONSTRAINT order_lines_number CHECK (number BETWEEN 1 AND 500),
    sku text NOT NULL,
    quantity integer NOT NULL
        CONSTRAINT order_lines_quantity CHECK (quantity BETWEEN 1 AND 1000000),
    cancelled integer NOT NULL,
    unit_price bigint NOT NULL CONSTRAINT order_lines_unit_price CHECK (unit_price >= 0),
    discount bigint NOT NULL,
    tax bigint NOT NULL CONSTRAINT order_lines_tax CHECK (tax >= 0),
    CONSTRAINT order_lines_pkey PRIMARY KEY (order_id, number),
    CONSTRAINT order_lines_cancelled CHECK (cancelled BETWEEN 0 AND quantity),
    CONSTRAINT order_lines_discount CHECK (discount BETWEEN 0 AND unit_price * quantity)
);

CREATE TABLE allocations (
    order_id uuid,
    line_number smallint,
    warehouse_id text,
    reservation_id uuid NOT NULL,
    quantity integer NOT NULL CONSTRAINT allocations_quantity CHECK (quantity >= 0),
    shipped integer CONSTRAINT allocations_shipped CHECK (shipped >= 0),
    CONSTRAINT allocations_pkey PRIMARY KEY (order_id, line_number, warehouse_id),
    CONSTRAINT allocations_order_id_line_number_fkey
        FOREIGN KEY (order_id, line_number)
        REFERENCES order_lines (order_id, number)
);

CREATE TABLE warehouse_fulfillments (
    order_id uuid CONSTRAINT warehouse_fulfillments_order_id_fkey REFERENCES orders (id),
    attempt integer,
    warehouse_id text,
    fulfillment_id uuid,
    version integer NOT NULL,
    state fulfillment_state NOT NULL,
    shipment_id uuid,
    tracking_number text,
    deliver_time timestamptz,
    outcome shipment_outcome,
    withdraw_version integer NOT NULL DEFAULT 0
        CONSTRAINT warehouse_fulfillments_withdraw_version CHECK (withdraw_version >= 0),
    CONSTRAINT warehouse_fulfillments_pkey PRIMARY KEY (order_id, attempt, warehouse_id),
    CONSTRAINT warehouse_fulfillments_shipped_before_delivered
        CHECK (shipment_id IS NOT NULL OR deliver_time IS NULL),
    CONSTRAINT warehouse_fulfillments_outcome
        CHECK (outcome IS NULL OR (shipment_id IS NOT NULL AND deliver_time IS NULL))
);

CREATE TABLE history (
    order_id uuid CONSTRAINT history_order_id_fkey REFERENCES orders (id),
    version integer,
    attempt integer NOT NULL,
    old order_status,
    new order_status NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    cause text NOT NULL,
    time timestamptz NOT NULL,
    claimed_actor text,
    note text,
    CONSTRAINT history_pkey PRIMARY KEY (order_id, version),
    CONSTRAINT history_order_id_cause_old_new_key UNIQUE (order_id, cause, old, new),
    CONSTRAINT history_creation CHECK ((old IS NULL) = (version = 1))
);

CREATE TABLE late_events (
    order_id uuid CONSTRAINT late_events_order_id_fkey REFERENCES orders (id),
    cause text,
    reason text NOT NULL,
    actor text NOT NULL,
    time timestamptz NOT NULL,
    CONSTRAINT late_events_pkey PRIMARY KEY (order_id, cause)
);

CREATE TABLE recipients (
    order_id uuid
        CONSTRAINT recipients_pkey PRIMARY KEY
        CONSTRAINT recipients_order_id_fkey REFERENCES orders (id),
    name text NOT NULL,
    address_lines text[] NOT NULL,
    locality text NOT NULL,
    administrative_area text NOT NULL,
    postal_code text NOT NULL,
    country_code text NOT NULL,
    email text NOT NULL,
    phone text NOT NULL
);
COMMENT ON TABLE recipients IS 'The only place in the system that holds names and addresses.';

CREATE TABLE returns (
    id uuid CONSTRAINT returns_pkey PRIMARY KEY,
    order_id uuid NOT NULL CONSTRAINT returns_order_id_fkey REFERENCES orders (id),
    attempt integer NOT NULL CONSTRAINT returns_attempt CHECK (attempt >= 1),
    kind return_kind NOT NULL,
    status return_status NOT NULL,
    status_reason text NOT NULL,
    reason text NOT NULL,
    warehouse_id text,
    refunded bigint NOT NULL CONSTRAINT returns_refunded CHECK (refunded >= 0),
    version integer NOT NULL CONSTRAINT returns_version CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT returns_id_order_id_key UNIQUE (id, order_id),
    CONSTRAINT returns_recall_without_refund CHECK (kind <> 'recall' OR refunded = 0)
);
CREATE INDEX returns_create_time_id ON returns (create_time, id);
CREATE INDEX returns_order_id_create_time_id ON returns (order_id, create_time, id);
CREATE INDEX returns_status_create_time_id ON returns (status, create_time, id);
CREATE INDEX returns_update_time ON returns (update_time);

CREATE TABLE return_lines (
    return_id uuid,
    order_id uuid NOT NULL,
    number smallint,
    announced integer NOT NULL CONSTRAINT return_lines_announced CHECK (announced >= 0),
    received integer NOT NULL CONSTRAINT return_lines_received CHECK (received >= 0),
    passed integer NOT NULL CONSTRAINT return_lines_passed CHECK (passed >= 0),
    failed integer NOT NULL CONSTRAINT return_lines_failed CHECK (failed >= 0),
    written_off integer NOT NULL CONSTRAINT return_lines_written_off CHECK (written_off >= 0),
    unrefunded integer NOT NULL,
    refund bigint NOT NULL CONSTRAINT return_lines_refund CHECK (refund >= 0),
    CONSTRAINT return_lines_pkey PRIMARY KEY (return_id, number),
    CONSTRAINT return_lines_accepted_once CHECK (passed + failed + written_off <= received),
    CONSTRAINT return_lines_unrefunded CHECK (unrefunded BETWEEN 0 AND passed + failed),
    CONSTRAINT return_lines_return_id_order_id_fkey
        FOREIGN KEY (return_id, order_id)
        REFERENCES returns (id, order_id),
    CONSTRAINT return_lines_order_id_number_fkey
        FOREIGN KEY (order_id, number)
        REFERENCES order_lines (order_id, number)
);

CREATE TABLE return_history (
    return_id uuid CONSTRAINT return_history_return_id_fkey REFERENCES returns (id),
    version integer,
    old return_status,
    new return_status NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    cause text NOT NULL,
    time timestamptz NOT NULL,
    claimed_actor text,
    note text,
    CONSTRAINT return_history_pkey PRIMARY KEY (return_id, version),
    CONSTRAINT return_history_return_id_cause_new_key UNIQUE (return_id, cause, new),
    CONSTRAINT return_history_creation CHECK ((old IS NULL) = (version = 1))
);
"""


def upgrade() -> None:
    create_shared_tables_v1()
    op.execute(SCHEMA)
