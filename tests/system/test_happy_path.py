"""One order from checkout to delivery, over all five services as processes."""

from devstack.stack import Stack
from tests.system.walk import open_shop


async def test_happy_path(stack: Stack) -> None:
    """The order is reserved in two warehouses, paid, picked, packed, shipped and delivered. It has
    each status once, in order, and the records of all five services agree on every unit and penny.
    """
    async with open_shop(stack) as shop:
        await shop.stock()
        order_id = await shop.walk()
        await shop.account([order_id])
