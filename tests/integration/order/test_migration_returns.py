"""Yesterday's orders survive the migration that brings returns, and can be returned; those of
the version between as well.
"""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from chassis.database import Database, connect
from chassis.decision import unwrap
from chassis.envelope import Envelope
from chassis.outbox import Outbox
from order_svc import store, tables, wire
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import ReturnProgress, ReturnStatus, StockStatus
from tests.support import FreshDatabase
from tests.unit.order.returns import ask, inspect, move, receive
from tests.yesterday import rows, upgraded

ORDER = UUID(int=1)
# What stands in the tables of both versions before, by names: the version between has more columns.
COLUMNS = (
    "id, number, checkout, status, reason, attempt, version, payment, progress, stock, returns,"
    " currency, shipping, refunded, create_time, update_time"
)


# A delivered order of three units for 10.00 in all, from London.
BEFORE = (
    (
        f"insert into orders ({COLUMNS}) values ('{ORDER}', 'OM-1', 'c1', 'delivered', 'X', 1, 1,"
        " 'completed', 'delivered', 'deducted', 'none', 'GBP', 495, 0, now(), now())"
    ),
    f"insert into order_lines values ('{ORDER}', 1, 'LAMP', 3, 0, 400, 300, 100)",
    (
        "insert into allocations (order_id, line_number, warehouse_id, reservation_id, quantity) "
        f"values ('{ORDER}', 1, 'london', '{UUID(int=3)}', 3)"
    ),
    (
        "insert into parts (order_id, attempt, warehouse_id, version, work, shipment_id,"
        f" deliver_time) values ('{ORDER}', 1, 'london', 1, 'completed', '{UUID(int=4)}', now())"
    ),
    f"insert into history values ('{ORDER}', 1, 1, null, 'delivered', 'X', 'order', 'r1', now())",
)
# What the version between stores of it as well; the migration to that version derives it.
SHIPPED = "update allocations set shipped = quantity"


def prepared(url: str, before: str) -> None:
    """A database of the version `before`, brought up to date; then a replica of that version
    writes once more.
    """
    stored = rows(*BEFORE) if before == "0001" else rows(*BEFORE, SHIPPED)
    with upgraded(url, "order_svc", stored, since=before) as engine, engine.begin() as connection:
        assert connection.execute(text("update orders set update_time = now()")).rowcount == 1


@pytest.mark.parametrize("before", ["0001", "0002"])
async def test_yesterdays_orders_can_be_returned(
    fresh_database: FreshDatabase, before: str
) -> None:
    """There is no return of it, as it was; one is asked for, comes and is inspected, and is
    stored with its history.
    """
    url = fresh_database()
    prepared(url, before)
    engine = connect(url)
    database = Database(engine, tables.claims, Outbox(tables.outbox, encode=wire.event))

    async def write(*envelopes: Envelope[Any]) -> None:
        for outcome in await database.write(
            envelopes, load=store.lock_orders, decide=decide, save=store.save_orders
        ):
            unwrap(outcome)

    try:
        async with database.read() as connection:
            order = (await store.find_orders(connection, [ORDER]))[ORDER]
        assert (order.rmas, order.has_returns, order.returns) == ((), False, ReturnProgress.NONE)
        await write(ask(order, {1: 3}))
        async with database.read() as connection:
            [rma] = (await store.find_orders(connection, [ORDER]))[ORDER].rmas
        await write(move(rma, ReturnStatus.APPROVED))
        await write(receive(rma, {1: 3}))
        await write(inspect(rma, {1: (3, 0, 0)}))
        async with database.read() as connection:
            order = (await store.find_orders(connection, [ORDER]))[ORDER]
        assert [(each.status, each.version, each.refund) for each in order.rmas] == [
            (ReturnStatus.INSPECTED, 4, 1000)
        ]
        assert (order.has_returns, order.returns, order.stock) == (
            True,
            ReturnProgress.FULL,
            StockStatus.RETURNED,
        )
    finally:
        await engine.dispose()
