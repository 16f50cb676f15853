"""The tables of the warehouse service."""

from alembic import op

from chassis.write.migration import create_shared_tables_v1

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TYPE movement_kind AS ENUM (
    'receive', 'adjust', 'reserve', 'confirm', 'release', 'expire', 'uncommit', 'ship', 'short',
    'spoil_committed', 'spoil_shelf', 'restock', 'mark_damaged', 'ship_shelf'
);
CREATE TYPE reservation_status AS ENUM ('active', 'confirmed', 'released', 'expired', 'closed');

CREATE TABLE stock_levels (
    id uuid CONSTRAINT stock_levels_pkey PRIMARY KEY,
    warehouse_id text NOT NULL,
    sku text NOT NULL,
    available bigint NOT NULL CONSTRAINT stock_levels_available CHECK (available >= 0),
    reserved bigint NOT NULL CONSTRAINT stock_levels_reserved CHECK (reserved >= 0),
    committed bigint NOT NULL CONSTRAINT stock_levels_committed CHECK (committed >= 0),
    damaged bigint NOT NULL CONSTRAINT stock_levels_damaged CHECK (damaged >= 0),
    version bigint NOT NULL CONSTRAINT stock_levels_version CHECK (version >= 1),
    update_time timestamptz NOT NULL,
    CONSTRAINT stock_levels_warehouse_id_sku_key UNIQUE (warehouse_id, sku),
    CONSTRAINT stock_levels_sellable CHECK (available >= reserved)
) WITH (fillfactor = 70);
CREATE INDEX stock_levels_sku ON stock_levels (sku);

CREATE TABLE movements (
    id uuid CONSTRAINT movements_pkey PRIMARY KEY,
    level_id uuid NOT NULL CONSTRAINT movements_level_id_fkey REFERENCES stock_levels (id),
    kind movement_kind NOT NULL,
    quantity bigint NOT NULL CONSTRAINT movements_quantity CHECK (quantity >= 1),
    available bigint NOT NULL,
    reserved bigint NOT NULL,
    committed bigint NOT NULL,
    damaged bigint NOT NULL,
    outside bigint NOT NULL,
    source_id uuid NOT NULL,
    order_id uuid,
    line_number smallint,
    cumulative bigint NOT NULL,
    level_version bigint NOT NULL,
    time timestamptz NOT NULL,
    actor text NOT NULL DEFAULT '',
    claimed_actor text,
    cause text NOT NULL DEFAULT '',
    note text,
    CONSTRAINT movements_business_key
        UNIQUE NULLS NOT DISTINCT (source_id, line_number, kind, level_id, cumulative),
    CONSTRAINT movements_conservation CHECK (available + committed + damaged + outside = 0),
    CONSTRAINT movements_effect CHECK (
        CASE kind
            WHEN 'receive' THEN
                (available, reserved, committed, damaged, outside) = (quantity, 0, 0, 0, -quantity)
            WHEN 'adjust' THEN
                abs(available) = quantity AND (reserved, committed, damaged) = (0, 0, 0)
            WHEN 'reserve' THEN
                (available, reserved, committed, damaged, outside) = (0, quantity, 0, 0, 0)
            WHEN 'confirm' THEN
                (available, reserved, committed, damaged, outside)
                    = (-quantity, -quantity, quantity, 0, 0)
            WHEN 'release' THEN
                (available, reserved, committed, damaged, outside) = (0, -quantity, 0, 0, 0)
            WHEN 'expire' THEN
                (available, reserved, committed, damaged, outside) = (0, -quantity, 0, 0, 0)
            WHEN 'uncommit' THEN
                (available, reserved, committed, damaged, outside) = (quantity, 0, -quantity, 0, 0)
            WHEN 'ship' THEN
                (available, reserved, committed, damaged, outside) = (0, 0, -quantity, 0, quantity)
            WHEN 'short' THEN
                (available, reserved, committed, damaged, outside) = (0, 0, -quantity, 0, quantity)
            WHEN 'spoil_committed' THEN
                (available, reserved, committed, damaged, outside) = (0, 0, -quantity, quantity, 0)
            WHEN 'spoil_shelf' THEN
                (available, reserved, committed, damaged, outside) = (-quantity, 0, 0, quantity, 0)
            WHEN 'restock' THEN
                (available, reserved, committed, damaged, outside) = (quantity, 0, 0, 0, -quantity)
            WHEN 'mark_damaged' THEN
                (available, reserved, committed, damaged, outside) = (0, 0, 0, quantity, -quantity)
            WHEN 'ship_shelf' THEN
                (available, reserved, committed, damaged, outside) = (-quantity, 0, 0, 0, quantity)
        END
    ),
    CONSTRAINT movements_order_line CHECK ((order_id IS NULL) = (line_number IS NULL))
);
CREATE INDEX movements_level_id_id ON movements (level_id, id);
CREATE INDEX movements_order_id_id ON movements (order_id, id) WHERE order_id IS NOT NULL;

CREATE TABLE order_reservations (
    order_id uuid CONSTRAINT order_reservations_pkey PRIMARY KEY,
    closed_attempt integer NOT NULL
        CONSTRAINT order_reservations_closed_attempt CHECK (closed_attempt >= 0),
    version bigint NOT NULL CONSTRAINT order_reservations_version CHECK (version >= 1)
);

CREATE TABLE reservations (
    id uuid CONSTRAINT reservations_pkey PRIMARY KEY,
    order_id uuid NOT NULL
        CONSTRAINT reservations_order_id_fkey REFERENCES order_reservations (order_id),
    attempt integer NOT NULL CONSTRAINT reservations_attempt CHECK (attempt >= 1),
    generation integer NOT NULL CONSTRAINT reservations_generation CHECK (generation >= 1),
    warehouse_id text NOT NULL,
    status reservation_status NOT NULL,
    version bigint NOT NULL CONSTRAINT reservations_version CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reservations_order_id_attempt_generation_warehouse_id_key
        UNIQUE (order_id, attempt, generation, warehouse_id)
);
CREATE INDEX reservations_expire_time ON reservations (expire_time) WHERE status = 'active';
CREATE UNIQUE INDEX reservations_unexpired_key ON reservations (order_id, attempt, warehouse_id)
    WHERE status <> 'expired';
CREATE INDEX reservations_status_id ON reservations (status, id);
CREATE INDEX reservations_update_time ON reservations (update_time);
CREATE INDEX reservations_warehouse_id_id ON reservations (warehouse_id, id);

CREATE TABLE reservation_lines (
    reservation_id uuid
        CONSTRAINT reservation_lines_reservation_id_fkey REFERENCES reservations (id),
    number smallint CONSTRAINT reservation_lines_number CHECK (number BETWEEN 1 AND 500),
    sku text NOT NULL,
    quantity integer NOT NULL
        CONSTRAINT reservation_lines_quantity CHECK (quantity BETWEEN 1 AND 1000000),
    reserved integer NOT NULL CONSTRAINT reservation_lines_reserved CHECK (reserved >= 0),
    released integer NOT NULL CONSTRAINT reservation_lines_released CHECK (released >= 0),
    committed integer NOT NULL CONSTRAINT reservation_lines_committed CHECK (committed >= 0),
    uncommitted integer NOT NULL CONSTRAINT reservation_lines_uncommitted CHECK (uncommitted >= 0),
    shipped integer NOT NULL CONSTRAINT reservation_lines_shipped CHECK (shipped >= 0),
    written_off integer NOT NULL CONSTRAINT reservation_lines_written_off CHECK (written_off >= 0),
    expired integer NOT NULL
        CONSTRAINT reservation_lines_expired CHECK (expired BETWEEN 0 AND released),
    spoiled integer NOT NULL DEFAULT 0
        CONSTRAINT reservation_lines_spoiled CHECK (spoiled BETWEEN 0 AND written_off),
    CONSTRAINT reservation_lines_pkey PRIMARY KEY (reservation_id, number),
    CONSTRAINT reservation_lines_units
        CHECK (reserved + released + committed + uncommitted + shipped + written_off = quantity)
);

CREATE TABLE order_lines (
    order_id uuid CONSTRAINT order_lines_order_id_fkey REFERENCES order_reservations (order_id),
    line_number smallint CONSTRAINT order_lines_line_number CHECK (line_number BETWEEN 1 AND 500),
    sku text NOT NULL,
    shipped integer NOT NULL CONSTRAINT order_lines_shipped CHECK (shipped >= 1),
    restocked integer NOT NULL CONSTRAINT order_lines_restocked CHECK (restocked >= 0),
    damaged integer NOT NULL CONSTRAINT order_lines_damaged CHECK (damaged >= 0),
    CONSTRAINT order_lines_pkey PRIMARY KEY (order_id, line_number),
    CONSTRAINT order_lines_returned CHECK (restocked + damaged <= shipped)
);
"""


def upgrade() -> None:
    create_shared_tables_v1()
    op.execute(SCHEMA)
