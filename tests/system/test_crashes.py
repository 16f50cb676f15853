"""A service is killed at the worst moment; nothing is lost and nothing is done twice."""

import asyncio
import signal

import pytest

from devstack.stack import Stack
from tests.system.walk import open_shop

CRASH_TIMEOUT_S = 120.0
ORDERS = 4

# Where each service is killed, and the how manieth time that it comes there. What each point stands between, chassis.crash's callers say.
POINTS = {
    "order": ["order.reserved:2", "order.committed", "database.committed:3", "outbox.published:2", "inbox.handled:3"],
    "warehouse": ["database.committed:4", "outbox.published:2", "inbox.handled:2"],
    "payment": ["payment.requested:2", "provider.answered:2", "database.committed:3", "outbox.published", "inbox.handled"],
    "fulfillment": ["database.committed:3", "outbox.published:2", "inbox.handled"],
    "shipping": ["shipping.asked", "shipping.bought", "database.committed:2", "outbox.published", "inbox.handled"],
}


@pytest.mark.parametrize(("service", "point"), [(service, point) for service, points in POINTS.items() for point in points])
async def test_a_service_killed_at_its_worst_moment_loses_and_doubles_nothing(stack: Stack, service: str, point: str) -> None:
    """Orders are on their way when the service is killed at that point, and goes on after a restart: all are delivered, the books agree."""
    child = stack.services[service]
    async with open_shop(stack) as shop:
        await shop.stock()
        await child.restart(CRASH_AT=point)
        walks = [asyncio.create_task(shop.walk()) for _ in range(ORDERS)]
        try:
            assert await child.wait(CRASH_TIMEOUT_S) == -signal.SIGKILL
        finally:
            await child.restart()
        await shop.account(await asyncio.gather(*walks))


async def test_every_service_killed_at_once_loses_and_doubles_nothing(stack: Stack) -> None:
    """All five are killed in the middle of it and start again in any order: all orders are delivered, the books agree."""
    async with open_shop(stack) as shop:
        await shop.stock()
        walks = [asyncio.create_task(shop.walk()) for _ in range(2 * ORDERS)]
        await asyncio.wait(walks, return_when=asyncio.FIRST_COMPLETED)
        for child in stack.services.values():
            child.kill()
        await asyncio.gather(*(child.start() for child in stack.services.values()))
        await shop.account(await asyncio.gather(*walks))
