"""Yesterday's stock survives the migrations: what has left before there were returns can come
back.
"""

from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from chassis.database import Database, connect
from chassis.outbox import Outbox
from tests.integration.warehouse.requests import as_stored
from tests.support import FreshDatabase
from tests.unit.warehouse import world
from tests.yesterday import upgraded
from warehouse_svc import tables, wire
from warehouse_svc.operations import Operations

RESERVATION = text(
    "insert into reservations values (:id, :order_id, 1, :generation, :at, :status, 2, now(),"
    " now())"
)
LINE = text(
    "insert into reservation_lines (reservation_id, number, sku, quantity, reserved, released,"
    " expired, committed, uncommitted, shipped, written_off) values (:id, :number, :sku, :quantity,"
    " 0, :released, :released, :committed, :uncommitted, :shipped, 0)"
)
# By warehouse and generation: the status, and by line number what became of its units.
RESERVATIONS = {
    ("london", 1): ("expired", {1: {"released": 3}}),
    ("london", 2): ("confirmed", {1: {"shipped": 2}, 2: {"committed": 1}}),
    ("york", 2): ("closed", {1: {"shipped": 1}, 3: {"uncommitted": 1}}),
}


def yesterday(connection: Connection, order_id: UUID) -> None:
    """An order of tea over two warehouses, some of which has left; and its levels and ledger."""
    connection.execute(text("insert into holdings values (:id, 0, 5)"), {"id": order_id})
    nothing = dict.fromkeys(("released", "committed", "uncommitted", "shipped"), 0)
    for (at, generation), (status, lines) in RESERVATIONS.items():
        its = uuid4()
        connection.execute(
            RESERVATION,
            {"id": its, "order_id": order_id, "generation": generation, "at": at, "status": status},
        )
        for number, units in lines.items():
            about = {
                "id": its,
                "number": number,
                "sku": f"tea {number}",
                "quantity": sum(units.values()),
            }
            connection.execute(LINE, nothing | units | about)


async def test_what_has_left_can_come_back(fresh_database: FreshDatabase) -> None:
    """Over all warehouses and generations, line by line; no line is spoiled; and what came back
    is booked as ever.
    """
    url, order_id = fresh_database(), uuid4()
    with (
        upgraded(
            url, "warehouse_svc", lambda connection: yesterday(connection, order_id)
        ) as engine,
        engine.connect() as connection,
    ):
        lines = connection.execute(text("select * from order_lines")).all()
        assert [tuple(line) for line in lines] == [(order_id, 1, "tea 1", 3, 0, 0)]
        assert connection.execute(
            text("select distinct spoiled from reservation_lines")
        ).scalars().all() == [0]
        yesterday(connection, uuid4())  # the version before still writes
        connection.rollback()
    reader = connect(url)
    try:
        operations = Operations(
            Database(reader, tables.claims, Outbox(tables.outbox, encode=wire.event))
        )
        await operations.book_return(world.bring("leeds", {1: 3}, order=order_id))
        stored = await as_stored(reader)
        assert stored.balances("leeds", "tea 1") == (3, 0, 0, 0)
        assert stored.holdings[order_id].lines[1].away == 0
    finally:
        await reader.dispose()
