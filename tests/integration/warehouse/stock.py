"""Stock, and orders that hold some of it. No tests here."""

from uuid import UUID, uuid4

from tests.unit.warehouse.world import receive, reserve
from warehouse_svc.app import Operations


async def stocked(operations: Operations, **quantities: int) -> None:
    """So many units of each SKU arrive in London, and as many in York."""
    for warehouse in ("london", "york"):
        await operations.stock.receive_stock(receive(warehouse, request=uuid4().int, **quantities))


async def reserved(operations: Operations, *wanted: tuple[str, int]) -> UUID:
    """An order, pending, with its units set aside."""
    return (await operations.reservations.reserve_stock(reserve(*wanted, order=uuid4()))).order_id
