"""A service is killed at a crash point, or ended during its work: nothing is lost and nothing is
done twice.
"""

import asyncio
import signal
from contextlib import suppress

import pytest

from devstack.errors import DevstackError
from devstack.processes import Service
from devstack.stack import Stack
from tests.services import crash, restart
from tests.system.walk import open_shop

CRASH_TIMEOUT_S = 120.0
ORDERS = 4
EVERY_SERVICE = ("warehouse", "payment", "shipping", "fulfillment", "order")

# The crash points and the services killed at them; the callers of chassis.values.crash_points say
# what each point lies between. (The points between a service and a processor or a carrier have
# their own tests, in tests/integration/payment and tests/integration/shipping.)
POINTS = {
    "order.reserved": ("order",),  # the stock is reserved, the order not written
    "order.committed": ("order",),  # the stock is committed, the order not confirmed
    "database.committed:2": EVERY_SERVICE,  # the effect is committed, its events are not published
    "outbox.published:2": EVERY_SERVICE,  # the events are published, and not marked as published
    "inbox.handled:2": EVERY_SERVICE,  # the effect is committed, its cause not acknowledged
}


async def armed(service: Service, point: str) -> None:
    """Restarts the service with this crash point. It may die before it serves, because of an event
    from the test before.
    """
    await service.stop()
    service.spawn(CRASH_AT=point)
    with suppress(DevstackError):  # `dies_and_returns` checks how it ended
        await service.ready()


async def dies_and_returns(service: Service) -> None:
    """The service dies at its crash point, and is started again."""
    assert await crash(service, CRASH_TIMEOUT_S) == -signal.SIGKILL, service.name
    await service.start()


@pytest.mark.parametrize("point", POINTS)
async def test_services_killed_at_a_crash_point_lose_nothing(stack: Stack, point: str) -> None:
    """Each service is killed at that point while orders are in progress, and starts again: all
    orders are delivered, and the audit finds nothing.
    """
    victims = [stack.services[name] for name in POINTS[point]]
    async with open_shop(stack) as shop:
        await shop.stock()
        try:
            await asyncio.gather(*(armed(victim, point) for victim in victims))
            walks = [asyncio.create_task(shop.walk()) for _ in range(ORDERS)]
            await asyncio.gather(*map(dies_and_returns, victims))
        except BaseException:  # a service that is still to die must not reach the next test
            await asyncio.gather(*(restart(victim) for victim in victims))
            raise
        await shop.account(await asyncio.gather(*walks))


async def test_all_services_killed_at_once_lose_nothing(stack: Stack) -> None:
    """All five services are killed while orders are in progress, and start again in any order: all
    orders are delivered, and the audit finds nothing.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        walks = [asyncio.create_task(shop.walk()) for _ in range(2 * ORDERS)]
        await asyncio.wait(walks, return_when=asyncio.FIRST_COMPLETED)
        for child in stack.services.values():
            child.kill()
        await asyncio.gather(*(child.start() for child in stack.services.values()))
        await shop.account(await asyncio.gather(*walks))


async def test_services_ended_in_turn_lose_nothing(stack: Stack) -> None:
    """Each service gets a SIGTERM while orders are in progress, drains, and starts again: all
    orders are delivered, and the audit finds nothing.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        walks = []
        for service in stack.services.values():
            walks += [asyncio.create_task(shop.walk()) for _ in range(ORDERS // 2)]
            await service.stop()
            code = await crash(service, CRASH_TIMEOUT_S)
            await service.start()
            assert code == 0, service.name
        await shop.account(await asyncio.gather(*walks))
