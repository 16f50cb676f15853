"""The outbox stores the number, the order and the cause of each event."""

from chassis.migration import number_events

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    number_events()
