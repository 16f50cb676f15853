"""Deferred events are parked in failed_events, and two bodies under one event id are two rows
there.
"""

from chassis.migration import park_failed_events

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    park_failed_events()
