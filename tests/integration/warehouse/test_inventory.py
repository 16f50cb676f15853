"""The inventory service's methods, over a real channel and a real PostgreSQL."""

from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.warehouse.v1 import inventory_service_pb2 as api
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values.errors import Invalid, NotFound, Refused, Stale
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.requests import as_stored, count, receive, receive_all, reserve
from tests.unit.warehouse import world
from warehouse_svc.app import Operations
from warehouse_svc.model.records import BALANCE_MAX
from warehouse_svc.tables import movements, outbox


def adjust(delta: int, **more: object) -> api.AdjustStockRequest:
    values = {
        "request_id": str(uuid4()),
        "warehouse_id": "london",
        "sku": "tea",
        "delta": delta,
    } | more
    # the caller gives the fields' types
    return api.AdjustStockRequest(**values)  # type: ignore[arg-type]


async def test_repeated_receipt_is_posted_once(clients: Clients, engine: AsyncEngine) -> None:
    """A repeat is answered with the current levels; the same request_id with other lines, known or
    new, posts nothing.
    """
    request = receive(tea=3, cup=1)
    levels = (await ask(clients.inventory.ReceiveStock, request)).stock_levels
    assert [(level.sku, level.available, level.sellable, level.version) for level in levels] == [
        ("tea", 3, 3, 1),
        ("cup", 1, 1, 1),
    ]
    await ask(clients.inventory.ReceiveStock, receive(tea=4))
    levels = (await ask(clients.inventory.ReceiveStock, request)).stock_levels
    assert [(level.sku, level.available) for level in levels] == [("tea", 7), ("cup", 1)]
    for other in (
        receive(request_id=UUID(request.request_id), tea=4),
        receive(request_id=UUID(request.request_id), jam=1),
    ):
        with pytest.raises(Invalid) as refused:
            await ask(clients.inventory.ReceiveStock, other)
        assert refused.value.reason == "REQUEST_ID_REUSED"
    assert await count(engine, movements, outbox) == [3, 3]
    (await as_stored(engine)).check()


async def test_receipt_out_of_bounds_posts_nothing(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """All lines are posted or none; a refusal by the contract's bounds names the field."""
    await operations.stock.receive_stock(
        world.receive("london", request=uuid4().int, tea=BALANCE_MAX)
    )
    posted = await count(engine, movements)
    with pytest.raises(Refused) as refused:
        await ask(clients.inventory.ReceiveStock, receive(cup=1, tea=1))
    assert (refused.value.reason, refused.value.metadata["sku"]) == ("QUANTITY_OUT_OF_RANGE", "tea")
    for lines, field in (
        ({"cup": 0}, "lines[0].quantity"),
        ({"cup": 1, "": 1}, "lines[1].sku"),
        ({"a\0b": 1}, "lines[0].sku"),
    ):
        with pytest.raises(Invalid) as invalid:
            await ask(clients.inventory.ReceiveStock, receive_all("london", lines))
        assert [v.subject for v in invalid.value.violations] == [field]
    assert await count(engine, movements) == posted


async def test_count_corrects_the_ledger(clients: Clients, engine: AsyncEngine) -> None:
    """A count corrects up and down, once for each request. It is refused below the reserved units,
    on an old version, and for an unknown SKU.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=5))
    await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))
    request = adjust(-3, expected_version=2)
    for _ in range(2):
        level = (await ask(clients.inventory.AdjustStock, request)).stock_level
        assert (level.available, level.reserved, level.sellable, level.version) == (2, 2, 0, 3)
    with pytest.raises(Refused) as below:
        await ask(clients.inventory.AdjustStock, adjust(-1))
    assert below.value.reason == "STOCK_BELOW_RESERVED"
    with pytest.raises(Stale) as stale:
        await ask(clients.inventory.AdjustStock, adjust(1, expected_version=2))
    assert stale.value.metadata == {"expected": "2", "actual": "3"}
    with pytest.raises(NotFound) as unknown:
        await ask(clients.inventory.AdjustStock, adjust(1, sku="cup"))
    assert unknown.value.reason == "STOCK_LEVEL_NOT_FOUND"
    (await as_stored(engine)).check()


async def test_availability_of_a_basket(clients: Clients) -> None:
    """Availability is summed over lines and warehouses, less the reserved units; an unknown SKU has
    none. It reserves no unit.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=2, cup=1))
    await ask(clients.inventory.ReceiveStock, receive("york", tea=3))
    await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))

    async def available(*wanted: tuple[str, int]) -> tuple[bool, list[tuple[str, int, int]]]:
        lines = [api.WantedLine(sku=sku, quantity=n) for sku, n in wanted]
        response = await ask(
            clients.inventory.CheckAvailability, api.CheckAvailabilityRequest(lines=lines)
        )
        return response.available, [(s.sku, s.requested, s.sellable) for s in response.skus]

    assert await available(("tea", 2), ("cup", 1), ("tea", 2)) == (
        True,
        [("tea", 4, 4), ("cup", 1, 1)],
    )
    assert await available(("tea", 5), ("jam", 1)) == (False, [("tea", 5, 4), ("jam", 1, 0)])


async def test_reading_stock_levels_by_page(clients: Clients) -> None:
    """One level is read by its place; all are read by warehouse and SKU, page by page, filtered.
    SKUs of any script are answered unchanged.
    """
    for warehouse in ("york", "london"):
        await ask(
            clients.inventory.ReceiveStock,
            receive_all(warehouse, {"tea": 1, "Café crème 咖啡": 2, "cup": 3}),
        )
    place = api.GetStockLevelRequest(warehouse_id="york", sku="Café crème 咖啡")
    assert (await ask(clients.inventory.GetStockLevel, place)).stock_level.available == 2
    with pytest.raises(NotFound) as unknown:
        await ask(
            clients.inventory.GetStockLevel,
            api.GetStockLevelRequest(warehouse_id="york", sku="jam"),
        )
    assert unknown.value.reason == "STOCK_LEVEL_NOT_FOUND"

    some = api.ListStockLevelsRequest(skus=["tea", "cup", "jam"])
    found = [
        page
        async for page in pages(clients.inventory.ListStockLevels, some, "stock_levels", size=2)
    ]
    seen = [(level.warehouse_id, level.sku) for page in found for level in page]
    assert seen == [("london", "cup"), ("london", "tea"), ("york", "cup"), ("york", "tea")]
    only = await ask(
        clients.inventory.ListStockLevels, api.ListStockLevelsRequest(warehouse_id="york")
    )
    assert {level.warehouse_id for level in only.stock_levels} == {"york"}
    assert len(only.stock_levels) == 3


@pytest.mark.parametrize("character", ["α", "茶", "🍵"])
async def test_stock_levels_of_longest_names_are_paged(clients: Clients, character: str) -> None:
    """The server accepts the token of a page that ends at 64 characters of any script."""
    name = character * 63
    await ask(
        clients.inventory.ReceiveStock, receive_all(f"{name}w", {f"{name}{n}": 1 for n in "12"})
    )
    every = api.ListStockLevelsRequest()
    found = [
        page
        async for page in pages(clients.inventory.ListStockLevels, every, "stock_levels", size=1)
    ]
    assert [[level.sku for level in page] for page in found] == [[f"{name}1"], [f"{name}2"]]


@pytest.mark.parametrize("page_token", ["nonsense", "x" * 1_025, "x" * 300_000, "x\0"], ids=len)
async def test_page_tokens_of_any_length_are_refused(clients: Clients, page_token: str) -> None:
    """The answer is PAGE_TOKEN_INVALID, also where the token breaks the contract's own bound."""
    with pytest.raises(Invalid) as refused:
        await ask(
            clients.inventory.ListStockLevels, api.ListStockLevelsRequest(page_token=page_token)
        )
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_reading_the_ledger(clients: Clients) -> None:
    """Movements come oldest first, with their effects, their source and their position in the
    level's history; by warehouse, SKU, order, kind and time.
    """
    first = receive("london", tea=5)
    await ask(clients.inventory.ReceiveStock, first)
    await ask(clients.inventory.ReceiveStock, receive("york", cup=5))
    reserved = await ask(clients.reservations.ReserveStock, reserve(("tea", 2), ("tea", 1)))

    async def listed(**filters: object) -> list[warehouse_pb2.StockMovement]:
        # the caller gives the fields' types
        request = api.ListStockMovementsRequest(**filters)  # type: ignore[arg-type]
        return list((await ask(clients.inventory.ListStockMovements, request)).stock_movements)

    everything = await listed()
    assert [m.movement_id for m in everything] == sorted(m.movement_id for m in everything)
    assert [(m.sku, m.stock_level_version) for m in everything] == [
        ("tea", 1),
        ("cup", 1),
        ("tea", 2),
        ("tea", 3),
    ]
    assert (
        everything[0].source_id,
        everything[0].available_delta,
        everything[0].outside_delta,
    ) == (first.request_id, 5, -5)
    assert not everything[0].HasField("order_id")
    mine = await listed(order_id=reserved.order_id)
    assert [(m.line_number, m.reserved_delta, m.source_id) for m in mine] == [
        (1, 2, reserved.reservations[0].reservation_id),
        (2, 1, reserved.reservations[0].reservation_id),
    ]
    assert (
        await listed(
            warehouse_id="london", sku="tea", kinds=[warehouse_pb2.STOCK_MOVEMENT_KIND_RESERVE]
        )
        == mine
    )
    assert await listed(sku="cup") == everything[1:2]
    assert await listed(warehouse_id="leeds") == []
    later = Timestamp(seconds=everything[-1].occur_time.seconds + 60)
    assert await listed(occur_time_from=later) == []
    assert await listed(occur_time_from=everything[0].occur_time) == everything


async def test_names_are_stored_composed(clients: Clients) -> None:
    """A warehouse and a SKU, composed or decomposed, are the same, in receipts, reads and lists."""
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    for name in (composed, decomposed):
        await ask(clients.inventory.ReceiveStock, receive_all(name, {name: 2}))
    for name in (composed, decomposed):
        request = api.GetStockLevelRequest(warehouse_id=name, sku=name)
        level = (await ask(clients.inventory.GetStockLevel, request)).stock_level
        assert (level.warehouse_id, level.sku, level.available) == (composed, composed, 4)
        listed = await ask(
            clients.inventory.ListStockLevels,
            api.ListStockLevelsRequest(warehouse_id=name, skus=[name]),
        )
        assert list(listed.stock_levels) == [level]


@pytest.mark.parametrize(
    "name", [" london", "london\n", "lon\u200bdon", "lon\x07don", "\u200clondon"]
)
async def test_a_name_with_hidden_characters_is_refused(clients: Clients, name: str) -> None:
    """White space at the edges and control characters are refused with the field's name."""
    for request, field in (
        (receive_all(name, {"tea": 1}), "warehouse_id"),
        (receive_all("london", {name: 1}), "lines[0].sku"),
    ):
        with pytest.raises(Invalid) as refused:
            await ask(clients.inventory.ReceiveStock, request)
        assert [violation.subject for violation in refused.value.violations] == [field]
