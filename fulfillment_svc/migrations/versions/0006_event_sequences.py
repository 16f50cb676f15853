"""The outbox stores the number, the order and the cause of each event."""

from chassis.migration import number_events

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    number_events()
