"""Stock, and orders that reserve some of it. No tests here."""

from uuid import UUID, uuid4

from tests.unit.warehouse.world import receive, reserve
from warehouse_svc.app import Operations


async def stocked(operations: Operations, **quantities: int) -> None:
    """Receives this number of units of each SKU in London, and as many in York."""
    for warehouse in ("london", "york"):
        await operations.stock.receive_stock(receive(warehouse, request=uuid4().int, **quantities))


async def reserved(operations: Operations, *wanted: tuple[str, int]) -> UUID:
    """Reserves units for a pending order; returns it."""
    return (await operations.reservations.reserve_stock(reserve(*wanted, order=uuid4()))).order_id
