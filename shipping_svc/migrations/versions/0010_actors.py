"""History has the claimed actor and the note of each request."""

from chassis.migration import record_operators

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    record_operators()
