"""Deferred events are parked in failed_events, and two bodies under one event id are two rows
there.
"""

from chassis.migration import park_failed_events

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    park_failed_events()
