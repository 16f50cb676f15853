"""What undoing things needs: cancelled units, refunds, late events."""

from collections.abc import Sequence

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS: Sequence[str] = ()


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
