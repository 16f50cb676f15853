"""Yesterday's orders survive the migrations, and can be cancelled, cut and refunded."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from chassis.database import Database, connect
from chassis.decision import unwrap
from chassis.envelope import Envelope
from chassis.outbox import Outbox
from order_svc import store, tables, wire
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import End, PaymentStatus, Status
from tests.support import FreshDatabase
from tests.unit.order.samples import cancel_items, end, refund
from tests.yesterday import rows, upgraded

SHIPPED, PENDING = UUID(int=1), UUID(int=2)
RESERVATION = UUID(int=3)


def _order(order_id: UUID, status: str, payment: str, expire: str) -> tuple[str, ...]:
    """An order of three units for 10.00 in all and 4.95 shipping, from London; and how it came
    about.
    """
    return (
        (
            f"insert into orders values ('{order_id}', '{order_id}', '{order_id}', null, null,"
            f" '{status}', 'X', 1, 1, '{payment}', 'unfulfilled', 'committed', 'none', 'GBP', 495,"
            f" 0, now(), now(), {expire})"
        ),
        f"insert into order_lines values ('{order_id}', 1, 'LAMP', 3, 0, 400, 300, 100)",
        f"insert into allocations values ('{order_id}', 1, 'london', '{RESERVATION}', 3)",
        (
            f"insert into history values ('{order_id}', 1, 1, null, '{status}', 'X', 'order', 'r1',"
            " now())"
        ),
    )


BEFORE = (
    *_order(SHIPPED, "shipped", "completed", "null"),
    *_order(PENDING, "pending", "pending", "now() + interval '30 minutes'"),
    (
        f"insert into parts values ('{SHIPPED}', 1, 'london', '{UUID(int=4)}', 9, 'shipped',"
        f" '{UUID(int=5)}', 'SB1', null)"
    ),
)
# What a replica of yesterday's writes while today's migration is done already.
MEANWHILE = (
    "insert into allocations (order_id, line_number, warehouse_id, reservation_id, quantity) values"
    " (:order, 1, 'paris', :reservation, 1)"
)


def prepared(url: str) -> None:
    """A database with yesterday's rows, brought up to date while a replica of yesterday's still
    writes.
    """
    with upgraded(url, "order_svc", rows(*BEFORE)) as engine, engine.begin() as connection:
        connection.execute(text(MEANWHILE), {"order": PENDING, "reservation": RESERVATION})
        connection.execute(text("delete from allocations where warehouse_id = 'paris'"))


async def test_yesterdays_orders_go_on_and_can_be_undone(fresh_database: FreshDatabase) -> None:
    """What was paid is known as captured, what had left as shipped; units are cancelled, a
    parcel comes back, the money is refunded.
    """
    url = fresh_database()
    prepared(url)
    engine = connect(url)
    database = Database(engine, tables.claims, Outbox(tables.outbox, encode=wire.event))
    try:
        async with database.read() as connection:
            known = await store.find_orders(connection, [SHIPPED, PENDING])
        shipped, pending = known[SHIPPED], known[PENDING]
        assert (shipped.captured, shipped.total, shipped.lines[0].allocations[0].shipped) == (
            1495,
            1495,
            3,
        )
        assert (pending.captured, pending.lines[0].allocations[0].shipped) == (0, None)
        envelopes: list[Envelope[Any]] = [
            cancel_items(pending, {1: 1}),
            end(shipped, "london", End.RETURNED),
            refund(shipped, 1495),
        ]
        outcomes = await database.write(
            envelopes, load=store.lock_orders, decide=decide, save=store.save_orders
        )
        cut, _, refunded = [unwrap(outcome) for outcome in outcomes]
        assert (cut.version, cut.lines[0].cancelled, cut.total) == (
            2,
            1,
            pending.total - pending.lines[0].worth(1),
        )
        assert (refunded.status, refunded.payment) == (Status.CANCELLED, PaymentStatus.REFUNDED)
        assert [line.announced for rma in refunded.rmas for line in rma.lines] == [3]
    finally:
        await engine.dispose()
