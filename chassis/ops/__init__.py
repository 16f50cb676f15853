"""What every service hosts for its operators: the events that it could not handle, and those
that it publishes (ordermesh.ops.v1).
"""

from chassis.ops.failed_events import FailedEventService
from chassis.ops.outbox import OutboxService

__all__ = ["FailedEventService", "OutboxService"]
