"""A service is killed at the worst moment, or ended while it works; nothing is lost and nothing
is done twice.
"""

import asyncio
import signal
from contextlib import suppress

import pytest

from devstack.errors import DevstackError
from devstack.processes import Service
from devstack.stack import Stack
from tests.system.walk import open_shop

CRASH_TIMEOUT_S = 120.0
ORDERS = 4
EVERY_SERVICE = ("warehouse", "payment", "shipping", "fulfillment", "order")

# Where which services are killed; what each point stands between, the callers of
# chassis.values.crash_points say. (The points between a service and a processor or a carrier have
# tests of their own, in tests/integration/payment and tests/integration/shipping.)
POINTS = {
    "order.reserved": ("order",),  # the stock is reserved, the order not written
    "order.committed": ("order",),  # the stock is committed, the order not confirmed
    "database.committed:2": EVERY_SERVICE,  # the effect is there, its events are not published
    "outbox.published:2": EVERY_SERVICE,  # the events are published, and not marked as such
    "inbox.handled:2": EVERY_SERVICE,  # the effect is there, its cause not acknowledged
}


async def armed(service: Service, point: str) -> None:
    """The service is started anew, to be killed there: perhaps before it serves, by what comes
    again from the test before.
    """
    await service.stop()
    service.spawn(CRASH_AT=point)
    with suppress(DevstackError):  # `dies_and_returns` sees how it ended
        await service.ready()


async def dies_and_returns(service: Service) -> None:
    """The service ends by the kill that it was started with, and is started again."""
    assert await service.wait(CRASH_TIMEOUT_S) == -signal.SIGKILL, service.name
    await service.start()


@pytest.mark.parametrize("point", POINTS)
async def test_services_killed_at_their_worst_moment_lose_and_double_nothing(
    stack: Stack, point: str
) -> None:
    """Orders are on their way when each service is killed at that point and starts again: all
    are delivered, the books agree.
    """
    victims = [stack.services[name] for name in POINTS[point]]
    async with open_shop(stack) as shop:
        await shop.stock()
        try:
            await asyncio.gather(*(armed(victim, point) for victim in victims))
            walks = [asyncio.create_task(shop.walk()) for _ in range(ORDERS)]
            await asyncio.gather(*map(dies_and_returns, victims))
        except BaseException:  # whoever is still there to be killed must not be for the next test
            await asyncio.gather(*(victim.restart() for victim in victims))
            raise
        await shop.account(await asyncio.gather(*walks))


async def test_every_service_killed_at_once_loses_and_doubles_nothing(stack: Stack) -> None:
    """All five are killed in the middle of it and start again in any order: all orders are
    delivered, the books agree.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        walks = [asyncio.create_task(shop.walk()) for _ in range(2 * ORDERS)]
        await asyncio.wait(walks, return_when=asyncio.FIRST_COMPLETED)
        for child in stack.services.values():
            child.kill()
        await asyncio.gather(*(child.start() for child in stack.services.values()))
        await shop.account(await asyncio.gather(*walks))


async def test_services_that_are_ended_in_turn_lose_and_double_nothing(stack: Stack) -> None:
    """Each gets a SIGTERM while orders are on their way, ends by itself, and starts again: all
    are delivered, the books agree.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        walks = []
        for service in stack.services.values():
            walks += [asyncio.create_task(shop.walk()) for _ in range(ORDERS // 2)]
            await service.stop()
            code = await service.wait(CRASH_TIMEOUT_S)
            await service.start()
            assert code == 0, service.name
        await shop.account(await asyncio.gather(*walks))
