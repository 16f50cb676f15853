"""What a processor says against what it said before is stored, until an operator resolves it."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE contradictions (
        id UUID NOT NULL,
        operation_id UUID NOT NULL,
        outcome operation_outcome NOT NULL,
        reference TEXT,
        failure_code TEXT,
        report_id TEXT NOT NULL,
        payload_digest BYTEA NOT NULL
            CONSTRAINT contradictions_payload_digest CHECK (octet_length(payload_digest) = 32),
        report_time TIMESTAMP WITH TIME ZONE NOT NULL,
        resolve_time TIMESTAMP WITH TIME ZONE,
        resolve_note TEXT,
        CONSTRAINT contradictions_pkey PRIMARY KEY (id),
        CONSTRAINT contradictions_operation_id_payload_digest_key UNIQUE (operation_id, payload_digest),
        CONSTRAINT contradictions_outcome CHECK (outcome in ('failed', 'succeeded')),
        CONSTRAINT contradictions_resolved CHECK ((resolve_time is null) = (resolve_note is null)),
        CONSTRAINT contradictions_operation_id_fkey FOREIGN KEY(operation_id) REFERENCES operations (id)
    )
    """,
    (
        "COMMENT ON TABLE contradictions IS 'What a processor said of a settled operation against"
        " what it had said before.'"
    ),
    "CREATE INDEX contradictions_open ON contradictions (report_time) WHERE resolve_time IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
