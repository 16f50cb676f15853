"""History has the claimed actor and the note of each request."""

from chassis.migration import record_operators

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    record_operators()
