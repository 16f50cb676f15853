"""The database's constraints, and the order, the locks and the pauses of its statements."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import pytest
from ordermesh.shipping.v1.shipping_service_pb2 import ListTrackingEventsRequest
from sqlalchemy import Table, func, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from chassis.values.paging import Page, page_request
from shipping_svc.lifecycle import Status
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    BoughtLabel,
    Label,
    RecallClosed,
    RecallOpened,
    Row,
    Shipment,
    TrackingEvent,
    Transition,
)
from shipping_svc.store.labels import count_pending_labels, find_label, start_due_label_tries
from shipping_svc.store.recalls import count_open_recalls, find_recalls, start_due_recall_tries
from shipping_svc.store.reports import is_reported, list_tracking_events
from shipping_svc.store.shipments import (
    find_open_shipments,
    find_shipments,
    find_versions,
    list_shipments,
)
from shipping_svc.store.workspace import lock_shipments, save_shipments
from shipping_svc.tables import label_tries, recall_tries, shipments
from shipping_svc.wire import responses
from tests.integration.shipping.requests import rows
from tests.unit.shipping.samples import LABEL, NOON, create_shipment, record_label, report, shipment


def fresh(**more: Any) -> Shipment:
    return shipment(**({"id": uuid7(), "fulfillment_id": uuid7()} | more))


async def stored(engine: AsyncEngine, *several: Shipment, more: tuple[Row, ...] = ()) -> None:
    """Stores the records as they are, as if each were new."""
    async with engine.begin() as connection:
        await save_shipments(connection, {}, {record.id: record for record in several}, more)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"status": "created", "tracking_number": None}, "tracking_number_with_label"),
    ({"status": "pending", "tracking_number": "T"}, "tracking_number_with_label"),
    ({"status": "failed", "tracking_number": "T"}, "tracking_number_with_label"),
    ({"status": "in_transit", "report_time": None}, "report_time_with_report"),
    ({"status": "created", "report_time": NOON}, "report_time_with_report"),
    ({"status": "created", "carrier_code": "NO"}, "carrier_code_with_refusal"),
    ({"status": "pending", "recall_time": NOON}, "recall_time_with_label"),
    ({"status": "failed", "recall_time": NOON}, "recall_time_with_label"),
    ({"status": "voided", "recall_time": None}, "void_requested"),
    (
        {"status": "created", "tracking_number": "T2", "contradict_time": NOON},
        "contradict_time_with_void",
    ),
    ({"attempt": 0}, "shipments_attempt"),
    ({"version": 0}, "shipments_version"),
    ({"parcels": shipment().parcels * 51}, "parcels_number"),
    ({"parcels": (replace(shipment().parcels[0], weight_grams=0),)}, "parcels_weight"),
    # Copies of the shipment that is stored first.
    ({"fulfillment_id": UUID(int=3)}, "valid_fulfillment_key"),
    ({"status": "created", "tracking_number": "T1"}, "live_tracking_number_key"),
]


async def test_database_refuses_invalid_shipments(
    engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """Each invariant of a shipment is a constraint, independent of the service's code; a fulfilment
    and a tracking number have one shipment.
    """
    await stored(engine, fresh(fulfillment_id=UUID(int=3), status="created", tracking_number="T1"))
    for broken, rule in BROKEN:
        with subtests.test(rule, **broken), pytest.raises(IntegrityError, match=rule):
            await stored(engine, fresh(**broken))
    await stored(engine, fresh(status=Status.DELIVERED), fresh(status=Status.LOST))
    for status, time in ((Status.DELIVERED, None), (Status.LOST, NOON)):
        change = update(shipments).where(shipments.c.status == status).values(deliver_time=time)
        rule = "deliver_time_with_delivery"
        with subtests.test(rule, status=status), pytest.raises(IntegrityError, match=rule):
            async with engine.begin() as connection:
                await connection.execute(change)


async def test_each_cause_report_and_label_is_stored_once(
    engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """Also without any key, a cause moves a shipment once, a report is recorded once, and a label
    is bought once.
    """
    record = fresh()
    move = Transition(
        shipment_id=record.id,
        version=2,
        old=Status.PENDING,
        new=Status.CREATED,
        reason="WHY",
        actor="actor",
        cause="cause",
        time=NOON,
    )
    reports = TrackingEvent(
        shipment_id=record.id, report=report("lost", 0, "r1").command.report, record_time=NOON
    )
    twins: dict[str, tuple[Row, Row]] = {
        "history": (move, replace(move, version=3)),
        "tracking": (reports, replace(reports, report=report("delivered", 9, "r1").command.report)),
        "label": (
            BoughtLabel(record.id, LABEL),
            BoughtLabel(record.id, replace(LABEL, content=b"another")),
        ),
    }
    for what, both in twins.items():
        with subtests.test(what), pytest.raises(IntegrityError, match="duplicate key"):
            await stored(engine, record, more=both)


async def test_a_label_has_a_size(engine: AsyncEngine, subtests: pytest.Subtests) -> None:
    """A label has a document of 1 byte at least and of a bounded size."""
    record = fresh()
    for size in (0, 5 * 2**20 + 1):
        with subtests.test(size=size), pytest.raises(IntegrityError, match="labels_content"):
            await stored(
                engine,
                record,
                more=(BoughtLabel(record.id, Label("T", b"x" * size, "text/plain")),),
            )


async def test_stored_shipment_is_read_unchanged(engine: AsyncEngine) -> None:
    """Every field and every parcel is read in its order, for every status."""
    several = [
        fresh(status=status, tracking_number=f"T{n}" if shipment(status).tracking_number else None)
        for n, status in enumerate(Status)
    ]
    await stored(engine, *several)
    async with engine.connect() as connection:
        assert await find_shipments(connection, [record.id for record in several]) == {
            record.id: record for record in several
        }
        assert await find_versions(connection, [several[0].id, uuid7()]) == {several[0].id: 1}


async def test_request_finds_shipment_by_fulfilment(engine: AsyncEngine) -> None:
    """The shipment is found under the id that the request proposed and under its own; others are
    found by id.
    """
    record, other, proposed = fresh(), fresh(), uuid7()
    await stored(engine, record, other)
    async with engine.begin() as connection:
        found = await lock_shipments(
            connection,
            [create_shipment(proposed, fulfillment_id=record.fulfillment_id)],
            {other.id},
        )
        assert found.before == {record.id: record, other.id: other}
        assert found.get(proposed) == record
        unknown = await lock_shipments(connection, [record_label(target=uuid7())], set())
        assert unknown.before == {}
        async with engine.connect() as rival:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await lock_shipments(rival, [record_label(target=record.id)], set())


async def test_recorded_reports_are_loaded(engine: AsyncEngine) -> None:
    """Of the reports in the commands, the load returns those that are recorded already, each for
    its own shipment.
    """
    record, other = fresh(), fresh()
    reports = [
        TrackingEvent(
            shipment_id=record.id, report=report("in_transit", m).command.report, record_time=NOON
        )
        for m in range(3)
    ]
    await stored(
        engine,
        record,
        other,
        more=(
            *reports,
            TrackingEvent(
                shipment_id=other.id, report=report("lost").command.report, record_time=NOON
            ),
        ),
    )
    commands = [
        report("in_transit", 1, target=record.id),
        report("lost", target=record.id),
        report("lost", target=other.id),
    ]
    async with engine.begin() as connection:
        found = await lock_shipments(connection, commands, set())
    assert {id: shipment.recorded_reports for id, shipment in found.before.items()} == {
        record.id: {"in_transit@1"},
        other.id: {"lost@0"},
    }


async def test_a_list_is_newest_first_by_its_filter(engine: AsyncEngine) -> None:
    """The filters work alone and together. A page begins after the previous page's last row, and
    reads one row more than it holds.
    """
    order = uuid7()
    several = [
        fresh(order_id=order),
        fresh(status="created", order_id=order),
        fresh(status="failed"),
        fresh(),
    ]
    await stored(engine, *several)
    async with engine.connect() as connection:

        async def listed(after: UUID | None = None, size: int = 10, **wanted: Any) -> list[int]:
            page = Page(
                size=size, after=(after,) if after else None, filter=0, encode=responses.shipment
            )
            return [
                several.index(record)
                for record in await list_shipments(connection, ShipmentFilter(**wanted), page)
            ]

        assert await listed() == [3, 2, 1, 0]
        assert await listed(order_id=order) == [1, 0]
        assert await listed(statuses=(Status.PENDING, Status.FAILED)) == [3, 2, 0]
        assert await listed(tracking_number=LABEL.tracking_number) == [1]
        assert await listed(order_id=order, statuses=(Status.PENDING,)) == [0]
        assert await listed(size=1) == [3, 2]
        assert await listed(after=several[2].id) == [1, 0]


async def test_tracking_is_listed_in_recorded_order(engine: AsyncEngine) -> None:
    """The list has the order of recording, not of occurrence; a page begins after the previous
    page's last row.
    """
    record = fresh()
    reports = [
        TrackingEvent(
            shipment_id=record.id,
            report=report("in_transit", minute).command.report,
            record_time=NOON,
        )
        for minute in (5, 1, 3)
    ]
    await stored(engine, record, more=tuple(reports))
    async with engine.connect() as connection:
        found = await list_tracking_events(
            connection,
            record.id,
            page_request(ListTrackingEventsRequest(), responses.shipment, int),
        )
        assert [replace(event, sequence=0) for event in found] == reports
        page = Page(size=1, after=(found[0].sequence,), filter=0, encode=responses.shipment)
        assert await list_tracking_events(connection, record.id, page) == found[1:]


async def tried(
    engine: AsyncEngine, id: UUID, ago_s: float, tries: int, table: Table = label_tries
) -> None:
    """Sets the number and the time of the tries to buy a label, or to recall it."""
    async with engine.begin() as connection:
        when = func.clock_timestamp() - timedelta(seconds=ago_s)
        await connection.execute(
            update(table).values(tries=tries, try_time=when).where(table.c.shipment_id == id)
        )


async def test_pauses_between_tries_double(engine: AsyncEngine, subtests: pytest.Subtests) -> None:
    """With a retry after 10 s the pauses are 10, 20, 40 s, and a minute at most; until then no
    other replica starts a try.
    """
    # Time passes between the update and the check: well before the end of a pause, and just after
    # it.
    record = fresh()
    await stored(engine, record)
    pauses = [
        (5, 1, False),
        (11, 1, True),
        (15, 2, False),
        (21, 2, True),
        (35, 3, False),
        (41, 3, True),
        (55, 60, False),
        (61, 60, True),
    ]
    for ago_s, tries, due in pauses:
        with subtests.test(ago_s=ago_s, tries=tries):
            await tried(engine, record.id, ago_s, tries)
            async with engine.begin() as connection:
                assert await start_due_label_tries(connection, 10, 50) == (
                    [record.id] if due else []
                )
                assert await start_due_label_tries(connection, 10, 50) == []
            [(count,)] = await rows(engine, "select tries from label_tries")
            assert count == tries + due


async def test_concurrent_replicas_take_different_shipments(engine: AsyncEngine) -> None:
    """Two concurrent replicas take different shipments, the longest waiting first, and none is
    taken twice.
    """
    several = [fresh() for _ in range(4)]
    await stored(engine, *several)
    for place, record in enumerate(several):
        await tried(engine, record.id, 60 - place, 1)
    async with engine.begin() as one, engine.begin() as other:
        first = await start_due_label_tries(one, 10, 2)
        second = await start_due_label_tries(other, 10, 50)
    assert set(first) == {record.id for record in several[:2]}
    assert set(second) == {record.id for record in several[2:]}


async def test_a_settled_label_waits_no_longer(engine: AsyncEngine) -> None:
    """The row of tries is deleted with the change of status, in the same transaction; the metrics
    count the open ones.
    """
    record, other = fresh(create_time=NOON), fresh()
    await stored(engine, record, other)
    async with engine.begin() as connection:
        assert (await count_pending_labels(connection))[0] == 2
        settled = replace(record, status=Status.FAILED, version=2)
        await save_shipments(
            connection, {record.id: record, other.id: other}, {record.id: settled}, []
        )
        assert (await count_pending_labels(connection))[0] == 1
        await save_shipments(
            connection,
            {other.id: other},
            {other.id: replace(other, status=Status.FAILED, version=2)},
            [],
        )
        assert await count_pending_labels(connection) == (0, 0.0)


async def test_recalls_are_tried_with_doubling_pauses(engine: AsyncEngine) -> None:
    """A recall's row is inserted with the recall, due after a pause that doubles, taken by one
    replica, and deleted with the answer. The metrics count the open ones.
    """
    record, other = fresh(status="failed", create_time=NOON), fresh(status="failed")
    first, second = (
        RecallOpened(shipment_id=record.id, purchase=0, tracking_number="T1", time=NOON),
        RecallOpened(shipment_id=other.id, purchase=0, tracking_number="T2", time=NOON),
    )
    await stored(engine, record, other, more=(first, second))
    await tried(engine, record.id, 21, 2, recall_tries)
    await tried(engine, other.id, 19, 2, recall_tries)
    async with engine.begin() as connection:
        assert await find_recalls(connection, [record.id, uuid7()]) == [first]
        assert (await count_open_recalls(connection))[0] == 2
        assert await start_due_recall_tries(connection, 10, 50) == [first]
        assert await start_due_recall_tries(connection, 10, 50) == []
        await save_shipments(
            connection, {}, {}, [RecallClosed(record.id, 0, "T1"), RecallClosed(other.id, 0, "T2")]
        )
        assert await count_open_recalls(connection) == (0, 0.0)


async def test_each_purchase_is_recalled_alone(engine: AsyncEngine) -> None:
    """A recall of an unknown sale is due after a pause. Once the sale is known, it is due as if it
    had just been inserted.

    Each is closed alone, by the answer to its own request and not by an earlier one.
    """
    record = fresh(status="failed", create_time=NOON)
    unknown_sale, other = (
        RecallOpened(shipment_id=record.id, purchase=0, tracking_number=None, time=NOON),
        RecallOpened(shipment_id=record.id, purchase=1, tracking_number="T2", time=NOON),
    )
    await stored(engine, record, more=(unknown_sale, other))
    reports = replace(unknown_sale, tracking_number="T1")
    async with engine.begin() as connection:
        assert await find_recalls(connection, [record.id]) == [other]
        assert sorted(
            await start_due_recall_tries(connection, 10, 50), key=attrgetter("purchase")
        ) == [unknown_sale, other]
        await save_shipments(connection, {}, {}, [unknown_sale, reports])
        assert sorted(await find_recalls(connection, [record.id]), key=attrgetter("purchase")) == [
            reports,
            other,
        ]
        assert await start_due_recall_tries(connection, 10, 50) == [reports]
        await save_shipments(connection, {}, {}, [RecallClosed(record.id, 0, None)])
        assert len(await find_recalls(connection, [record.id])) == 2
        await save_shipments(connection, {}, {}, [RecallClosed(record.id, 0, "T1")])
        assert await find_recalls(connection, [record.id]) == [other]


async def test_open_shipments_are_found_by_order_or_fulfilment(
    engine: AsyncEngine,
) -> None:
    """The result has the open shipments of every attempt, without ended ones, recalled ones and
    those of another order.
    """
    order = uuid7()

    def one(place: int, **more: Any) -> Shipment:
        record = fresh(order_id=order, attempt=place + 1, **more)
        return replace(record, tracking_number=f"T{place}") if record.tracking_number else record

    several = [one(place, status=status) for place, status in enumerate(Status)]
    recalled = fresh(order_id=order, status="created", tracking_number="T99", recall_time=NOON)
    await stored(engine, *several, recalled, fresh())
    async with engine.connect() as connection:
        found = await find_open_shipments(connection, order_ids=[order, uuid7()])
        one_by_one = [
            await find_open_shipments(connection, fulfillment_ids=[record.fulfillment_id])
            for record in several
        ]
    open_shipments = [
        record
        for record in several
        if record.status
        in ("pending", "created", "in_transit", "out_for_delivery", "delivery_failed")
    ]
    assert sorted(map(tuple, found)) == sorted(
        (record.id, order, record.attempt, record.fulfillment_id) for record in open_shipments
    )
    assert sorted(tuple(row) for rows in one_by_one for row in rows) == sorted(map(tuple, found))


async def test_a_void_label_is_not_printed(engine: AsyncEngine) -> None:
    """The document is still stored, and no longer answered."""
    record, other = (
        fresh(status="voided", tracking_number="T1"),
        fresh(status="created", tracking_number="T2"),
    )
    await stored(
        engine, record, other, more=(BoughtLabel(record.id, LABEL), BoughtLabel(other.id, LABEL))
    )
    async with engine.connect() as connection:
        assert await find_label(connection, record.id) is None
        assert await find_label(connection, other.id) == replace(LABEL, tracking_number="T2")
        assert [
            await is_reported(connection, "sandbox", number) for number in ("T1", "T2", "T3")
        ] == [False] * 3
