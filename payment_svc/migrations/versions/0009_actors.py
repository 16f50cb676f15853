"""History has the claimed actor and the note of each request."""

from chassis.migration import record_operators

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    record_operators()
