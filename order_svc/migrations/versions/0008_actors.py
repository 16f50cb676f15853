"""History has the claimed actor and the note of each request."""

from chassis.migration import record_operators

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    record_operators()
