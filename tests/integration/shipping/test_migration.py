"""Yesterday's shipments survive the migrations."""

from typing import Any

from sqlalchemy import Connection, text

from tests.support import FreshDatabase
from tests.yesterday import rows, upgraded

BEFORE = (
    """
    insert into shipments select gen_random_uuid(), gen_random_uuid(), 1, gen_random_uuid(), 'W1', status, 'WHY', 'sandbox', null,
        case when status not in ('pending', 'failed') then 'T' || status end, 2, now(), now(),
        case when status not in ('pending', 'failed', 'created') then now() end, case when status = 'delivered' then now() end
    from unnest(enum_range(null::shipment_status)) status
    """,
    """
    insert into history select id, version, 'pending', 'pending', 'REPACKED', 'fulfillment', 'e1', now() from shipments
        where status = 'pending'
    """,
    (
        "insert into tracking_events select id, 'r1', status, report_time, 'Dover', now() from"
        " shipments where report_time is not null"
    ),
)


def test_yesterdays_shipments_can_be_recalled(fresh_database: FreshDatabase) -> None:
    """One of each status, stored before there were recalls, is as it was afterwards, not
    recalled; and a waiting one can become void. What may have been sold unheard of, for one that
    failed or was packed anew, the carrier is asked to take back.
    """

    def fill(connection: Connection) -> None:
        rows(*BEFORE)(connection)
        before.extend(connection.execute(every).all())

    before: list[Any] = []
    every = text("select * from shipments order by id")
    with upgraded(fresh_database(), "shipping_svc", fill) as engine, engine.begin() as connection:
        after = connection.execute(every).all()
        assert [tuple(row) for row in after] == [
            (*row, None, 0, row.status == "pending", None, None) for row in before
        ]
        assert len(after) == 9
        assert connection.execute(text("select count(*) from tracking_events")).scalar_one() == 6
        recalled = (
            "select status::text, r.purchase, r.tracking_number from recall_tries r join shipments"
            " on id = shipment_id order by 1"
        )
        assert [tuple(row) for row in connection.execute(text(recalled))] == [
            ("failed", 0, None),
            ("pending", 0, None),
        ]
        void = (
            "update shipments set status = 'voided', recall_time = now() where status = 'created'"
        )
        assert connection.execute(text(void)).rowcount == 1
