"""Yesterday's fulfilments survive the migrations."""

from sqlalchemy import text

from tests.support import FreshDatabase
from tests.yesterday import rows, upgraded

# One fulfilment in each status, of an order of its own; each with three units of a line, scanned; a
# second cancelled one was withdrawn.
BEFORE = (
    """
    insert into fulfillments
    select gen_random_uuid(), gen_random_uuid(), 'DOVER', 2, 'OM-' || status, status, true, null,
        case when status in ('shipped', 'completed') then gen_random_uuid() end, 2, now(), now()
    from unnest(enum_range(null::fulfillment_status)) status
    """,
    """
    insert into fulfillments
    select gen_random_uuid(), order_id, 'LEEDS', 2, order_number, 'cancelled', false, null, null, 2, now(), now()
    from fulfillments where status = 'planning'
    """,
    (
        "insert into picklist_lines select id, 1, 'mug', 3, 3 from fulfillments where warehouse_id"
        " = 'DOVER'"
    ),
    (
        "insert into packages select id, 1, 1, 1, 1, 1 from fulfillments where status >= 'packed'"
        " and warehouse_id = 'DOVER'"
    ),
    (
        "insert into packed_items select fulfillment_id, 1, 1, 3 from packages join picklist_lines"
        " using (fulfillment_id)"
    ),
    """
    insert into history
    select id, 2, 'planning', 'cancelled', case warehouse_id when 'DOVER' then 'ORDER_CANCELLED' else 'STOCK_COMMITTED_ELSEWHERE' end,
        '', 'order', id::text, now()
    from fulfillments where status = 'cancelled'
    """,
)
LINES = """
    select order_number, l.quantity, picked, cut, short, spoiled,
        (select count(*) from packages p where p.fulfillment_id = f.id), closed_attempt
    from fulfillments f join picklist_lines l on l.fulfillment_id = f.id join orders using (order_id)
"""


def test_yesterdays_fulfilments_go_on(fresh_database: FreshDatabase) -> None:
    """Each is as it was; of a cancelled one, all units are cut and no package is left, and its
    order's attempt is dead. A withdrawn one ends no order. And the version before can go on
    storing.
    """
    with (
        upgraded(fresh_database(), "fulfillment_svc", rows(*BEFORE)) as engine,
        engine.begin() as connection,
    ):
        found = {number: tuple(rest) for number, *rest in connection.execute(text(LINES))}
        assert len(found) == 10
        assert found.pop("OM-cancelled") == (0, 0, 3, 0, 0, 0, 2)
        for number, line in found.items():
            assert line == (
                3,
                3,
                0,
                0,
                0,
                int(number in ("OM-packed", "OM-ready", "OM-shipped", "OM-completed")),
                0,
            )
        assert connection.execute(text("select count(*) from orders")).scalar_one() == 10
        columns = "fulfillment_id, line_number, sku, quantity, picked"
        # all of it stands here
        later = (
            f"insert into picklist_lines ({columns}) select id, 2, 'cup', 1, 0 from fulfillments"
        )
        assert connection.execute(text(later)).rowcount == 11
