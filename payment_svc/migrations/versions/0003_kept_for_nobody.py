"""Money that the version before kept for orders that were dead already, or for attempts that were
over: it goes back.

Nobody will tell of these orders again, so that no decision comes by. The version before may still
ask about what is open, and would give it up: so nothing is due before that version is gone.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

GIVE_BACK = """
    WITH kept AS (
        SELECT gen_random_uuid() AS id, payments.id AS payment_id, payments.version + 1 AS version, payments.status,
            (CASE payments.status WHEN 'authorized' THEN 'void' ELSE 'refund' END)::operation_kind AS kind,
            CASE payments.status WHEN 'authorized' THEN authorized ELSE captured - refunded - refund_pending END AS amount,
            'version:' || accounts.version AS cause_id, clock_timestamp() AS time
        FROM payments JOIN accounts USING (order_id)
        WHERE (accounts.status IN ('cancelled', 'failed') OR accounts.attempt <> payments.attempt)
            AND (payments.status = 'authorized' OR captured > refunded + refund_pending)
            AND NOT EXISTS (
                SELECT FROM operations
                WHERE payment_id = payments.id AND (cause = 'order' OR (ask_time IS NOT NULL AND kind <> 'refund'))
            )
    ), asked AS (
        INSERT INTO operations
            (id, payment_id, kind, amount, outcome, requested_by, request_time, ask_time, asks, cause, cause_id)
        SELECT id, payment_id, kind, amount, 'requested', concat_ws(':', payment_id, kind, 'order', cause_id),
            time, time + interval '10 minutes', 0, 'order', cause_id
        FROM kept
    ), told AS (
        INSERT INTO history (payment_id, version, old, new, operation_id, outcome, reason, actor, cause, time)
        SELECT payment_id, version, status, status, id, 'requested', upper(kind::text) || '_REQUESTED', 'payment', 'migration 0003', time
        FROM kept
    )
    UPDATE payments
    SET version = kept.version, update_time = kept.time,
        refund_pending = refund_pending + CASE kind WHEN 'refund' THEN kept.amount ELSE 0 END
    FROM kept WHERE payments.id = kept.payment_id
"""


def upgrade() -> None:
    op.execute(GIVE_BACK)
