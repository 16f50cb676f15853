"""The streams of the services, created for tests that have no relay."""

from chassis.broker.stream import Broker
from chassis.values.event_subjects import STREAMS


async def ensure_streams(broker: Broker) -> None:
    """Creates the streams that are missing, and corrects those that differ from their
    declaration.
    """
    for name in STREAMS:
        await broker.ensure_stream(name)
