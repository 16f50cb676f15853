"""Returns: units of an order on their way back."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    "ALTER TABLE orders ADD COLUMN has_returns BOOLEAN NOT NULL DEFAULT false",
    "CREATE TYPE return_kind AS ENUM ('customer', 'recall', 'without_goods')",
    (
        "CREATE TYPE return_status AS ENUM ('requested', 'approved', 'rejected', 'in_transit',"
        " 'received', 'inspected', 'refunded', 'closed', 'cancelled')"
    ),
    """
    CREATE TABLE returns (
        id UUID NOT NULL,
        order_id UUID NOT NULL,
        attempt INTEGER NOT NULL CONSTRAINT returns_attempt CHECK (attempt >= 1),
        kind return_kind NOT NULL,
        status return_status NOT NULL,
        status_reason TEXT NOT NULL,
        reason TEXT NOT NULL,
        warehouse_id TEXT,
        refunded BIGINT NOT NULL CONSTRAINT returns_refunded CHECK (refunded >= 0),
        version INTEGER NOT NULL CONSTRAINT returns_version CHECK (version >= 1),
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT returns_pkey PRIMARY KEY (id),
        CONSTRAINT returns_id_order_id_key UNIQUE (id, order_id),
        CONSTRAINT returns_recall_without_refund CHECK (kind <> 'recall' or refunded = 0),
        CONSTRAINT returns_order_id_fkey FOREIGN KEY(order_id) REFERENCES orders (id)
    )
    """,
    "CREATE INDEX returns_create_time_id ON returns (create_time, id)",
    "CREATE INDEX returns_order_id_create_time_id ON returns (order_id, create_time, id)",
    "CREATE INDEX returns_status_create_time_id ON returns (status, create_time, id)",
    """
    CREATE TABLE return_lines (
        return_id UUID NOT NULL,
        order_id UUID NOT NULL,
        number SMALLINT NOT NULL,
        announced INTEGER NOT NULL CONSTRAINT return_lines_announced CHECK (announced >= 0),
        received INTEGER NOT NULL CONSTRAINT return_lines_received CHECK (received >= 0),
        passed INTEGER NOT NULL CONSTRAINT return_lines_passed CHECK (passed >= 0),
        failed INTEGER NOT NULL CONSTRAINT return_lines_failed CHECK (failed >= 0),
        written_off INTEGER NOT NULL CONSTRAINT return_lines_written_off CHECK (written_off >= 0),
        unrefunded INTEGER NOT NULL,
        refund BIGINT NOT NULL CONSTRAINT return_lines_refund CHECK (refund >= 0),
        CONSTRAINT return_lines_pkey PRIMARY KEY (return_id, number),
        CONSTRAINT return_lines_accepted_once CHECK (passed + failed + written_off <= received),
        CONSTRAINT return_lines_unrefunded CHECK (unrefunded between 0 and passed + failed),
        CONSTRAINT return_lines_return_id_order_id_fkey FOREIGN KEY(return_id, order_id) REFERENCES returns (id, order_id),
        CONSTRAINT return_lines_order_id_number_fkey FOREIGN KEY(order_id, number) REFERENCES order_lines (order_id, number)
    )
    """,
    """
    CREATE TABLE return_history (
        return_id UUID NOT NULL,
        version INTEGER NOT NULL,
        "old" return_status,
        "new" return_status NOT NULL,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        cause TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT return_history_pkey PRIMARY KEY (return_id, version),
        CONSTRAINT return_history_return_id_cause_new_key UNIQUE (return_id, cause, "new"),
        CONSTRAINT return_history_creation CHECK ((old is null) = (version = 1)),
        CONSTRAINT return_history_return_id_fkey FOREIGN KEY(return_id) REFERENCES returns (id)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
