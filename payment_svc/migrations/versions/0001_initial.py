"""The tables of the payment service, and the schema of the sandbox processor."""

from alembic import op

from chassis.write.migration import create_shared_tables_v1

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TYPE payment_status AS ENUM (
    'pending', 'authorized', 'captured', 'declined', 'failed', 'voided', 'partially_refunded',
    'refunded', 'not_required'
);
CREATE TYPE operation_kind AS ENUM ('authorize', 'charge', 'capture', 'void', 'refund');
CREATE TYPE operation_outcome AS ENUM ('requested', 'unknown', 'succeeded', 'failed');
CREATE TYPE refund_cause AS ENUM ('order', 'return', 'request');

CREATE TABLE accounts (
    order_id uuid CONSTRAINT accounts_pkey PRIMARY KEY,
    version bigint NOT NULL CONSTRAINT accounts_version CHECK (version >= 1),
    attempt integer NOT NULL CONSTRAINT accounts_attempt CHECK (attempt >= 1),
    status text NOT NULL,
    total bigint NOT NULL CONSTRAINT accounts_total CHECK (total >= 0),
    currency text NOT NULL CONSTRAINT accounts_currency CHECK (currency ~ '^[A-Z]{3}$')
);
COMMENT ON TABLE accounts IS
    'What may be charged for each order. The lock of its row guards its payments and operations '
    'too.';

CREATE TABLE payments (
    id uuid CONSTRAINT payments_pkey PRIMARY KEY,
    order_id uuid NOT NULL CONSTRAINT payments_order_id_fkey REFERENCES accounts (order_id),
    attempt integer NOT NULL CONSTRAINT payments_attempt CHECK (attempt >= 1),
    try_number integer NOT NULL CONSTRAINT payments_try_number CHECK (try_number >= 1),
    order_version bigint CONSTRAINT payments_order_version CHECK (order_version >= 1),
    status payment_status NOT NULL,
    currency text NOT NULL CONSTRAINT payments_currency CHECK (currency ~ '^[A-Z]{3}$'),
    amount bigint NOT NULL,
    authorized bigint NOT NULL,
    captured bigint NOT NULL,
    refunded bigint NOT NULL,
    refund_pending bigint NOT NULL DEFAULT 0,
    processor text NOT NULL,
    decline_code text,
    version integer NOT NULL CONSTRAINT payments_version CHECK (version >= 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT payments_order_id_attempt_try_number_key UNIQUE (order_id, attempt, try_number),
    CONSTRAINT payments_authorized CHECK (authorized BETWEEN 0 AND amount),
    CONSTRAINT payments_captured CHECK (captured BETWEEN 0 AND authorized),
    CONSTRAINT payments_refunded
        CHECK (refunded >= 0 AND refund_pending >= 0 AND refunded + refund_pending <= captured),
    CONSTRAINT payments_charged
        CHECK ((status IN ('captured', 'partially_refunded', 'refunded')) = (captured > 0)),
    CONSTRAINT payments_authorized_positive CHECK (status <> 'authorized' OR authorized > 0),
    CONSTRAINT payments_all_refunded CHECK (status <> 'refunded' OR refunded = captured),
    CONSTRAINT payments_not_required CHECK ((status = 'not_required') = (amount = 0)),
    CONSTRAINT payments_decline_code
        CHECK ((status IN ('declined', 'failed')) = (decline_code IS NOT NULL))
);
CREATE UNIQUE INDEX payments_one_per_attempt ON payments (order_id, attempt)
    WHERE status IN (
        'authorized', 'captured', 'failed', 'not_required', 'partially_refunded', 'pending',
        'refunded'
    );
CREATE INDEX payments_order_id_id ON payments (order_id, id);
CREATE INDEX payments_status_id ON payments (status, id);
CREATE INDEX payments_update_time ON payments (update_time);

CREATE TABLE operations (
    id uuid CONSTRAINT operations_pkey PRIMARY KEY,
    payment_id uuid NOT NULL CONSTRAINT operations_payment_id_fkey REFERENCES payments (id),
    kind operation_kind NOT NULL,
    amount bigint NOT NULL,
    outcome operation_outcome NOT NULL,
    requested_by text NOT NULL CONSTRAINT operations_requested_by_key UNIQUE,
    request_time timestamptz NOT NULL,
    next_lookup_time timestamptz,
    lookups integer NOT NULL CONSTRAINT operations_lookups CHECK (lookups >= 0),
    reference text,
    failure_code text,
    settle_time timestamptz,
    cause refund_cause,
    cause_id text,
    CONSTRAINT operations_kind_reference_key UNIQUE (kind, reference),
    CONSTRAINT operations_payment_id_kind_cause_cause_id_key
        UNIQUE (payment_id, kind, cause, cause_id),
    CONSTRAINT operations_amount
        CHECK (amount > 0 OR (amount = 0 AND kind = 'refund' AND outcome = 'failed')),
    CONSTRAINT operations_cause CHECK (
        (kind IN ('refund', 'void')) = (cause IS NOT NULL)
        AND (cause IS NULL) = (cause_id IS NULL)
    ),
    CONSTRAINT operations_lookup_while_open
        CHECK ((outcome IN ('requested', 'unknown')) = (next_lookup_time IS NOT NULL)),
    CONSTRAINT operations_settled CHECK ((next_lookup_time IS NULL) = (settle_time IS NOT NULL)),
    CONSTRAINT operations_failure_code CHECK ((outcome = 'failed') = (failure_code IS NOT NULL)),
    CONSTRAINT operations_reference CHECK (outcome <> 'succeeded' OR reference IS NOT NULL)
);
CREATE INDEX operations_next_lookup_time ON operations (next_lookup_time)
    WHERE next_lookup_time IS NOT NULL;
CREATE UNIQUE INDEX operations_one_open_charge ON operations (payment_id)
    WHERE next_lookup_time IS NOT NULL AND kind <> 'refund';
CREATE INDEX operations_payment_id ON operations (payment_id);
CREATE INDEX operations_refunds ON operations (request_time, id) WHERE kind = 'refund';
CREATE INDEX operations_refunds_update_time ON operations (coalesce(settle_time, request_time))
    WHERE kind = 'refund';
COMMENT ON TABLE operations IS
    'The requests to processors. Rows are never deleted, and a settled outcome never changes.';

CREATE TABLE contradictions (
    id uuid CONSTRAINT contradictions_pkey PRIMARY KEY,
    operation_id uuid NOT NULL
        CONSTRAINT contradictions_operation_id_fkey REFERENCES operations (id),
    outcome operation_outcome NOT NULL
        CONSTRAINT contradictions_outcome CHECK (outcome IN ('failed', 'succeeded')),
    reference text,
    failure_code text,
    report_id text NOT NULL,
    payload_sha256 bytea NOT NULL
        CONSTRAINT contradictions_payload_sha256 CHECK (octet_length(payload_sha256) = 32),
    report_time timestamptz NOT NULL,
    resolve_time timestamptz,
    resolve_note text,
    CONSTRAINT contradictions_operation_id_payload_sha256_key UNIQUE (operation_id, payload_sha256),
    CONSTRAINT contradictions_resolved CHECK ((resolve_time IS NULL) = (resolve_note IS NULL))
);
CREATE INDEX contradictions_open ON contradictions (report_time) WHERE resolve_time IS NULL;
COMMENT ON TABLE contradictions IS
    'Reports of a processor about a settled operation that contradict an earlier one.';

CREATE TABLE history (
    payment_id uuid CONSTRAINT history_payment_id_fkey REFERENCES payments (id),
    version integer,
    old payment_status,
    new payment_status NOT NULL,
    operation_id uuid,
    outcome operation_outcome,
    reason text NOT NULL,
    actor text NOT NULL,
    cause text NOT NULL,
    time timestamptz NOT NULL,
    claimed_actor text,
    note text,
    CONSTRAINT history_pkey PRIMARY KEY (payment_id, version),
    CONSTRAINT history_creation CHECK ((old IS NULL) = (version = 1)),
    CONSTRAINT history_operation CHECK ((operation_id IS NULL) = (outcome IS NULL))
);

CREATE SCHEMA sandbox;

CREATE TABLE sandbox.calls (
    key uuid CONSTRAINT calls_pkey PRIMARY KEY,
    calls integer NOT NULL
);
COMMENT ON TABLE sandbox.calls IS
    'How often each key was sent: what a token does to the first request with a key depends on '
    'it.';

CREATE TABLE sandbox.operations (
    key uuid CONSTRAINT operations_pkey PRIMARY KEY,
    kind text NOT NULL
        CONSTRAINT operations_kind
            CHECK (kind IN ('authorize', 'charge', 'capture', 'void', 'refund', 'abandoned')),
    state text NOT NULL
        CONSTRAINT operations_state CHECK (state IN ('pending', 'succeeded', 'declined')),
    request_hash bytea,
    token text,
    amount bigint NOT NULL,
    code text,
    final boolean NOT NULL,
    parent uuid CONSTRAINT operations_parent_fkey REFERENCES sandbox.operations (key),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_time timestamptz,
    CONSTRAINT operations_due_while_pending CHECK ((state = 'pending') = (due_time IS NOT NULL))
);
CREATE INDEX operations_due_time ON sandbox.operations (due_time) WHERE state = 'pending';
CREATE INDEX operations_parent ON sandbox.operations (parent) WHERE parent IS NOT NULL;

CREATE TABLE sandbox.webhooks (
    key uuid
        CONSTRAINT webhooks_pkey PRIMARY KEY
        CONSTRAINT webhooks_key_fkey REFERENCES sandbox.operations (key),
    attempts integer NOT NULL DEFAULT 0,
    due_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    deliver_time timestamptz
);
CREATE INDEX webhooks_due_time ON sandbox.webhooks (due_time) WHERE deliver_time IS NULL;
"""


def upgrade() -> None:
    create_shared_tables_v1()
    op.execute(SCHEMA)
