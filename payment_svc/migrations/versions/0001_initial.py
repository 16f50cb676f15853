"""The payment service's first tables, and the memory of the sandbox processor, in a schema of
its own.
"""

from alembic import op

from chassis.migration import create_chassis_tables_v1

revision = "0001"
down_revision = None

TABLES = (
    (
        "CREATE TYPE order_status AS ENUM ('pending', 'confirmed', 'processing', 'shipped',"
        " 'delivered', 'cancelled', 'refunded', 'failed', 'unknown')"
    ),
    (
        "CREATE TYPE payment_status AS ENUM ('pending', 'authorized', 'captured', 'declined',"
        " 'failed', 'voided', 'partially_refunded', 'refunded', 'not_required')"
    ),
    "CREATE TYPE operation_kind AS ENUM ('authorize', 'charge', 'capture', 'void', 'refund')",
    "CREATE TYPE operation_outcome AS ENUM ('requested', 'unknown', 'succeeded', 'failed')",
    """
    CREATE TABLE accounts (
        order_id UUID NOT NULL,
        version BIGINT NOT NULL CONSTRAINT accounts_version CHECK (version >= 1),
        attempt INTEGER NOT NULL CONSTRAINT accounts_attempt CHECK (attempt >= 1),
        status order_status NOT NULL,
        total BIGINT NOT NULL CONSTRAINT accounts_total CHECK (total >= 0),
        currency TEXT NOT NULL CONSTRAINT accounts_currency CHECK (currency ~ '^[A-Z]{3}$'),
        CONSTRAINT accounts_pkey PRIMARY KEY (order_id)
    )
    """,
    (
        "COMMENT ON TABLE accounts IS 'What may be charged for each order. The lock of its row"
        " guards its payments and operations too.'"
    ),
    """
    CREATE TABLE payments (
        id UUID NOT NULL,
        order_id UUID NOT NULL,
        attempt INTEGER NOT NULL CONSTRAINT payments_attempt CHECK (attempt >= 1),
        try_number INTEGER NOT NULL CONSTRAINT payments_try_number CHECK (try_number >= 1),
        status payment_status NOT NULL,
        currency TEXT NOT NULL CONSTRAINT payments_currency CHECK (currency ~ '^[A-Z]{3}$'),
        amount BIGINT NOT NULL,
        authorized BIGINT NOT NULL,
        captured BIGINT NOT NULL,
        refunded BIGINT NOT NULL,
        processor TEXT NOT NULL,
        decline_code TEXT,
        version INTEGER NOT NULL CONSTRAINT payments_version CHECK (version >= 1),
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT payments_pkey PRIMARY KEY (id),
        CONSTRAINT payments_order_id_attempt_try_number_key UNIQUE (order_id, attempt, try_number),
        CONSTRAINT payments_authorized CHECK (authorized between 0 and amount),
        CONSTRAINT payments_captured CHECK (captured between 0 and authorized),
        CONSTRAINT payments_refunded CHECK (refunded between 0 and captured),
        CONSTRAINT payments_charged CHECK ((status in ('captured', 'partially_refunded', 'refunded')) = (captured > 0)),
        CONSTRAINT payments_set_aside CHECK (status <> 'authorized' or authorized > 0),
        CONSTRAINT payments_all_refunded CHECK (status <> 'refunded' or refunded = captured),
        CONSTRAINT payments_not_required CHECK ((status = 'not_required') = (amount = 0)),
        CONSTRAINT payments_decline_code CHECK ((status in ('declined', 'failed')) = (decline_code is not null)),
        CONSTRAINT payments_order_id_fkey FOREIGN KEY(order_id) REFERENCES accounts (order_id)
    )
    """,
    (
        "CREATE UNIQUE INDEX payments_one_per_attempt ON payments (order_id, attempt) WHERE status"
        " IN ('authorized', 'captured', 'failed', 'not_required', 'partially_refunded', 'pending',"
        " 'refunded')"
    ),
    "CREATE INDEX payments_order_id_id ON payments (order_id, id)",
    "CREATE INDEX payments_status_id ON payments (status, id)",
    """
    CREATE TABLE operations (
        id UUID NOT NULL,
        payment_id UUID NOT NULL,
        kind operation_kind NOT NULL,
        amount BIGINT NOT NULL CONSTRAINT operations_amount CHECK (amount > 0),
        outcome operation_outcome NOT NULL,
        requested_by TEXT NOT NULL,
        request_time TIMESTAMP WITH TIME ZONE NOT NULL,
        ask_time TIMESTAMP WITH TIME ZONE,
        asks INTEGER NOT NULL CONSTRAINT operations_asks CHECK (asks >= 0),
        reference TEXT,
        failure_code TEXT,
        settle_time TIMESTAMP WITH TIME ZONE,
        CONSTRAINT operations_pkey PRIMARY KEY (id),
        CONSTRAINT operations_kind_reference_key UNIQUE (kind, reference),
        CONSTRAINT operations_asked_for_while_open CHECK ((outcome in ('requested', 'unknown')) = (ask_time is not null)),
        CONSTRAINT operations_settled CHECK ((ask_time is null) = (settle_time is not null)),
        CONSTRAINT operations_failure_code CHECK ((outcome = 'failed') = (failure_code is not null)),
        CONSTRAINT operations_reference CHECK (outcome <> 'succeeded' or reference is not null),
        CONSTRAINT operations_payment_id_fkey FOREIGN KEY(payment_id) REFERENCES payments (id),
        CONSTRAINT operations_requested_by_key UNIQUE (requested_by)
    )
    """,
    "CREATE INDEX operations_ask_time ON operations (ask_time) WHERE ask_time IS NOT NULL",
    (
        "CREATE UNIQUE INDEX operations_one_open_charge ON operations (payment_id) WHERE ask_time"
        " IS NOT NULL AND kind <> 'refund'"
    ),
    "CREATE INDEX operations_payment_id ON operations (payment_id)",
    (
        "COMMENT ON TABLE operations IS 'What was asked of processors. Rows are never removed, and"
        " a settled outcome never changes.'"
    ),
    """
    CREATE TABLE history (
        payment_id UUID NOT NULL,
        version INTEGER NOT NULL,
        "old" payment_status,
        "new" payment_status NOT NULL,
        operation_id UUID,
        outcome operation_outcome,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        cause TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT history_pkey PRIMARY KEY (payment_id, version),
        CONSTRAINT history_creation CHECK ((old is null) = (version = 1)),
        CONSTRAINT history_operation CHECK ((operation_id is null) = (outcome is null)),
        CONSTRAINT history_payment_id_fkey FOREIGN KEY(payment_id) REFERENCES payments (id)
    )
    """,
)

SANDBOX = (
    "CREATE SCHEMA sandbox",
    """
    CREATE TABLE sandbox.calls (
        key UUID NOT NULL,
        calls INTEGER NOT NULL,
        CONSTRAINT calls_pkey PRIMARY KEY (key)
    )
    """,
    (
        "COMMENT ON TABLE sandbox.calls IS 'How often each key was sent: what a token does to the"
        " first request with a key depends on it.'"
    ),
    """
    CREATE TABLE sandbox.operations (
        key UUID NOT NULL,
        kind TEXT NOT NULL CONSTRAINT operations_kind CHECK (kind in ('authorize', 'charge', 'capture', 'abandoned')),
        state TEXT NOT NULL CONSTRAINT operations_state CHECK (state in ('pending', 'succeeded', 'declined')),
        request BYTEA,
        token TEXT,
        amount BIGINT NOT NULL,
        code TEXT,
        final BOOLEAN NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        due_time TIMESTAMP WITH TIME ZONE,
        CONSTRAINT operations_pkey PRIMARY KEY (key),
        CONSTRAINT operations_due_while_pending CHECK ((state = 'pending') = (due_time is not null))
    )
    """,
    "CREATE INDEX operations_due_time ON sandbox.operations (due_time) WHERE state = 'pending'",
    """
    CREATE TABLE sandbox.webhooks (
        key UUID NOT NULL,
        attempts INTEGER DEFAULT '0' NOT NULL,
        due_time TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        deliver_time TIMESTAMP WITH TIME ZONE,
        CONSTRAINT webhooks_pkey PRIMARY KEY (key),
        CONSTRAINT webhooks_key_fkey FOREIGN KEY(key) REFERENCES sandbox.operations (key)
    )
    """,
    "CREATE INDEX webhooks_due_time ON sandbox.webhooks (due_time) WHERE deliver_time IS NULL",
)


def upgrade() -> None:
    create_chassis_tables_v1()
    for statement in (*TABLES, *SANDBOX):
        op.execute(statement)
