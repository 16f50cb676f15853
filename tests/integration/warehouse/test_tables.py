"""The database refuses invalid rows of any writer: each invariant of the stock is a constraint."""

from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.unit.warehouse.world import confirm, receive, reserve, ship
from warehouse_svc.app import Operations

LEDGER = (
    "id, level_id, kind, quantity, available, reserved, committed, damaged, outside, source_id,"
    " order_id, line_number, cumulative"
)
COPY = (
    "insert into movements select gen_random_uuid(), {} level_version, time from movements where"
    " kind = 'reserve'"
)
# The attempted change, and the constraint that refuses it. The stock: 5 available, 2 reserved for
# one order, 1 committed for another, 1 shipped.
BREACHES = {
    "available below zero": (
        "update stock_levels set available = -1, reserved = 0",
        "stock_levels_available",
    ),
    "reserved below zero": ("update stock_levels set reserved = -1", "stock_levels_reserved"),
    "committed below zero": ("update stock_levels set committed = -1", "stock_levels_committed"),
    "damaged below zero": ("update stock_levels set damaged = -1", "stock_levels_damaged"),
    "more reserved than there is": (
        "update stock_levels set reserved = available + 1",
        "stock_levels_sellable",
    ),
    "a second level at a place": (
        (
            "insert into stock_levels select gen_random_uuid(), warehouse_id, sku, 0, 0, 0, 0, 1,"
            " update_time from stock_levels"
        ),
        "stock_levels_warehouse_id_sku_key",
    ),
    "a movement posted twice": (
        COPY.format(
            "level_id, kind, quantity, available, reserved, committed, damaged, outside, source_id,"
            " order_id, line_number, cumulative,"
        ),
        "movements_business_key",
    ),
    "a receipt posted twice": (
        COPY.replace("'reserve'", "'receive'").format(LEDGER.removeprefix("id, ") + ","),
        "movements_business_key",
    ),
    "units from nowhere": (
        COPY.format(
            "level_id, 'receive', 1, 1, 0, 0, 0, 0, gen_random_uuid(), order_id, line_number, 1,"
        ),
        "movements_conservation",
    ),
    "a movement that does what another does": (
        COPY.format("level_id, 'confirm', 1, 0, 1, 0, 0, 0, source_id, order_id, line_number, 9,"),
        "movements_effect",
    ),
    "a movement of nothing": (
        COPY.format("level_id, 'reserve', 0, 0, 0, 0, 0, 0, source_id, order_id, line_number, 9,"),
        "movements_quantity",
    ),
    "a movement of no level": (
        COPY.format(
            "gen_random_uuid(), 'reserve', 1, 0, 1, 0, 0, 0, source_id, order_id, line_number, 9,"
        ),
        "movements_level_id_fkey",
    ),
    "a line with a unit too many": (
        "update reservation_lines set shipped = shipped + 1",
        "reservation_lines_units",
    ),
    "a line with a bucket below zero": (
        (
            "update reservation_lines set reserved = reserved - 3, shipped = shipped + 3 where"
            " reserved = 2"
        ),
        "reservation_lines_reserved",
    ),
    "more spoiled than written off": (
        (
            "update reservation_lines set committed = committed - 1, written_off = 1, spoiled = 2"
            " where committed = 1"
        ),
        "reservation_lines_spoiled",
    ),
    "more restocked than shipped": (
        "update order_lines set restocked = shipped + 1",
        "order_lines_returned",
    ),
    "more damaged than shipped": (
        "update order_lines set damaged = shipped + 1",
        "order_lines_returned",
    ),
    "restocked and damaged": (
        "update order_lines set restocked = shipped, damaged = 1",
        "order_lines_returned",
    ),
    "restocked below zero": ("update order_lines set restocked = -1", "order_lines_restocked"),
    "damaged returns below zero": ("update order_lines set damaged = -1", "order_lines_damaged"),
    "nothing shipped": ("update order_lines set shipped = 0", "order_lines_shipped"),
    "a line of no order": (
        "update order_lines set order_id = gen_random_uuid()",
        "order_lines_order_id_fkey",
    ),
    "a line twice": ("insert into order_lines select * from order_lines", "order_lines_pkey"),
    "a second unexpired reservation": (
        (
            "insert into reservations select gen_random_uuid(), order_id, attempt, generation + 1,"
            " warehouse_id, status, version, create_time, expire_time from reservations"
        ),
        "reservations_unexpired_key",
    ),
    "a second reservation of a generation": (
        (
            "insert into reservations select gen_random_uuid(), order_id, attempt, generation,"
            " warehouse_id, 'expired', version, create_time, expire_time from reservations"
        ),
        "reservations_order_id_attempt_generation_warehouse_id_key",
    ),
}


@pytest.fixture
async def stock(operations: Operations, engine: AsyncEngine) -> AsyncEngine:
    """The database with some rows in every table."""
    await operations.stock.receive_stock(receive("london", request=uuid4().int, tea=7))
    await operations.reservations.reserve_stock(reserve(("tea", 2), order=uuid4()))
    sold = reserve(("tea", 1), order=uuid4())
    await operations.reservations.reserve_stock(sold)
    await operations.writer.write([confirm(sold.target)])
    shipped = reserve(("tea", 1), order=uuid4())
    await operations.reservations.reserve_stock(shipped)
    await operations.writer.write([confirm(shipped.target)])
    await operations.writer.write([ship("london", {1: 1}, shipped.target)])
    return engine


@pytest.mark.parametrize("breach", BREACHES)
async def test_database_refuses_invalid_stock(stock: AsyncEngine, breach: str) -> None:
    """Each invalid change is refused by its own constraint."""
    statement, constraint = BREACHES[breach]
    with pytest.raises(IntegrityError) as refused:
        async with stock.begin() as connection:
            await connection.execute(text(statement))
    assert f'"{constraint}"' in str(refused.value.orig)
