"""The broker of a test."""

from collections.abc import AsyncIterator

import pytest

from chassis.broker import stream
from chassis.broker.stream import Broker
from tests.streams import ensure_streams


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """The broker, which publishes the events of other services and reads those of the tested
    one.
    """
    broker = await stream.connect(nats_url, name="test")
    await ensure_streams(broker)
    yield broker
    await broker.close()
