"""One order from checkout to delivery, over all five services as processes."""

from devstack.stack import Stack
from tests.system.walk import open_shop


async def test_happy_path(stack: Stack) -> None:
    """Reserved in two warehouses, paid, picked, packed, shipped and delivered: each status once,
    in order, and every unit and every penny where it belongs, by the books of all five.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        order_id = await shop.walk()
        await shop.account([order_id])
