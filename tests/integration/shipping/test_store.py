"""What the database itself refuses, and what the SQL promises about order, locks and pauses."""

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

from chassis.values.paging import Page, asked
from shipping_svc import store, wire
from shipping_svc.lifecycle import Status
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    KeptLabel,
    Label,
    RecallClosed,
    RecallOpened,
    Row,
    Shipment,
    TrackingEvent,
    Transition,
)
from shipping_svc.tables import label_tries, recall_tries
from tests.integration.shipping.requests import rows
from tests.unit.shipping.samples import LABEL, NOON, ask, keep_label, report, shipment


def fresh(**more: Any) -> Shipment:
    return shipment(**({"id": uuid7(), "fulfillment_id": uuid7()} | more))


async def stored(engine: AsyncEngine, *several: Shipment, more: tuple[Row, ...] = ()) -> None:
    """Stores them as they are, as if each were new."""
    async with engine.begin() as connection:
        await store.save_shipments(connection, {}, {its.id: its for its in several}, more)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"status": "created", "tracking_number": None}, "tracking_number_with_label"),
    ({"status": "pending", "tracking_number": "T"}, "tracking_number_with_label"),
    ({"status": "failed", "tracking_number": "T"}, "tracking_number_with_label"),
    ({"status": "in_transit", "report_time": None}, "report_time_with_report"),
    ({"status": "created", "report_time": NOON}, "report_time_with_report"),
    ({"status": "delivered", "deliver_time": None}, "deliver_time_with_delivery"),
    ({"status": "lost", "deliver_time": NOON}, "deliver_time_with_delivery"),
    ({"status": "created", "carrier_code": "NO"}, "carrier_code_with_refusal"),
    ({"status": "pending", "recall_time": NOON}, "recall_time_with_label"),
    ({"status": "failed", "recall_time": NOON}, "recall_time_with_label"),
    ({"status": "voided", "recall_time": None}, "void_wanted"),
    (
        {"status": "created", "tracking_number": "T2", "contradict_time": NOON},
        "contradict_time_with_void",
    ),
    ({"attempt": 0}, "shipments_attempt"),
    ({"version": 0}, "shipments_version"),
    ({"parcels": shipment().parcels * 51}, "parcels_number"),
    ({"parcels": (replace(shipment().parcels[0], weight_grams=0),)}, "parcels_weight"),
    # Twins of the shipment that is stored first.
    ({"fulfillment_id": UUID(int=3)}, "standing_fulfillment_key"),
    ({"status": "created", "tracking_number": "T1"}, "live_tracking_number_key"),
]


async def test_the_database_refuses_what_cannot_be(
    engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """Each invariant of a shipment is a constraint, whatever the code above does; a fulfilment
    and a tracking number have one shipment.
    """
    await stored(engine, fresh(fulfillment_id=UUID(int=3), status="created", tracking_number="T1"))
    for broken, rule in BROKEN:
        with subtests.test(rule, **broken), pytest.raises(IntegrityError, match=rule):
            await stored(engine, fresh(**broken))


async def test_what_is_once_is_once(engine: AsyncEngine, subtests: pytest.Subtests) -> None:
    """Also without any key: a cause moves a shipment once, a report is recorded once, a label
    is bought once.
    """
    its = fresh()
    move = Transition(
        shipment_id=its.id,
        version=2,
        old=Status.PENDING,
        new=Status.CREATED,
        reason="WHY",
        actor="who",
        cause="cause",
        time=NOON,
    )
    heard = TrackingEvent(its.id, report("lost", 0, "r1").command.report, NOON)
    twins: dict[str, tuple[Row, Row]] = {
        "history": (move, replace(move, version=3)),
        "tracking": (heard, replace(heard, report=report("delivered", 9, "r1").command.report)),
        "label": (KeptLabel(its.id, LABEL), KeptLabel(its.id, replace(LABEL, content=b"another"))),
    }
    for what, both in twins.items():
        with subtests.test(what), pytest.raises(IntegrityError, match="duplicate key"):
            await stored(engine, its, more=both)


async def test_a_label_has_a_size(engine: AsyncEngine, subtests: pytest.Subtests) -> None:
    """Neither an empty document nor an endless one is a label."""
    its = fresh()
    for size in (0, 5 * 2**20 + 1):
        with subtests.test(size=size), pytest.raises(IntegrityError, match="labels_content"):
            await stored(
                engine, its, more=(KeptLabel(its.id, Label("T", b"x" * size, "text/plain")),)
            )


async def test_a_shipment_comes_back_as_it_was_stored(engine: AsyncEngine) -> None:
    """Every field and every parcel, in its order, of every status."""
    several = [
        fresh(status=status, tracking_number=f"T{n}" if shipment(status).tracking_number else None)
        for n, status in enumerate(Status)
    ]
    await stored(engine, *several)
    async with engine.connect() as connection:
        assert await store.find_shipments(connection, [its.id for its in several]) == {
            its.id: its for its in several
        }
        assert await store.versions(connection, [several[0].id, uuid7()]) == {several[0].id: 1}


async def test_an_ask_finds_the_shipment_by_its_fulfilment(engine: AsyncEngine) -> None:
    """The shipment stands under the id that the ask proposed and under its own, once locked;
    others are found by id.
    """
    its, other, proposed = fresh(), fresh(), uuid7()
    await stored(engine, its, other)
    async with engine.begin() as connection:
        found = await store.lock_shipments(
            connection, [ask(proposed, fulfillment_id=its.fulfillment_id)], {other.id}
        )
        assert found == {its.id: its, proposed: its, other.id: other}
        assert found[proposed] is found[its.id]
        assert await store.lock_shipments(connection, [keep_label(target=uuid7())], set()) == {}
        async with engine.connect() as rival:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.lock_shipments(rival, [keep_label(target=its.id)], set())


async def test_reports_that_are_recorded_are_known(engine: AsyncEngine) -> None:
    """Of the reports that the commands bring, those that are recorded already, each for its own
    shipment.
    """
    its, other = fresh(), fresh()
    heard = [TrackingEvent(its.id, report("in_transit", m).command.report, NOON) for m in range(3)]
    await stored(
        engine,
        its,
        other,
        more=(*heard, TrackingEvent(other.id, report("lost").command.report, NOON)),
    )
    commands = [
        report("in_transit", 1, target=its.id),
        report("lost", target=its.id),
        report("lost", target=other.id),
    ]
    async with engine.begin() as connection:
        found = await store.lock_shipments(connection, commands, set())
    assert {id: shipment.known_reports for id, shipment in found.items()} == {
        its.id: {"in_transit@1"},
        other.id: {"lost@0"},
    }


async def test_a_list_is_newest_first_by_its_filter(engine: AsyncEngine) -> None:
    """Each filter alone and all together; a page begins after the last one's last row, and finds
    one more than it holds.
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
                size=size, after=(after,) if after else None, filter=0, encode=wire.shipment
            )
            return [
                several.index(its)
                for its in await store.list_shipments(connection, ShipmentFilter(**wanted), page)
            ]

        assert await listed() == [3, 2, 1, 0]
        assert await listed(order_id=order) == [1, 0]
        assert await listed(statuses=(Status.PENDING, Status.FAILED)) == [3, 2, 0]
        assert await listed(tracking_number=LABEL.tracking_number) == [1]
        assert await listed(order_id=order, statuses=(Status.PENDING,)) == [0]
        assert await listed(size=1) == [3, 2]
        assert await listed(after=several[2].id) == [1, 0]


async def test_tracking_is_listed_as_it_was_heard(engine: AsyncEngine) -> None:
    """In the order of recording, not of happening; a page goes on after the last one's last row."""
    its = fresh()
    heard = [
        TrackingEvent(its.id, report("in_transit", minute).command.report, NOON)
        for minute in (5, 1, 3)
    ]
    await stored(engine, its, more=tuple(heard))
    async with engine.connect() as connection:
        found = await store.list_tracking_events(
            connection, its.id, asked(ListTrackingEventsRequest(), wire.shipment, int)
        )
        assert [replace(event, sequence=0) for event in found] == heard
        page = Page(size=1, after=(found[0].sequence,), filter=0, encode=wire.shipment)
        assert await store.list_tracking_events(connection, its.id, page) == found[1:]


async def tried(
    engine: AsyncEngine, id: UUID, ago_s: float, tries: int, of: Table = label_tries
) -> None:
    """Sets when, and for the how many-eth time, its label was last asked for, or back for."""
    async with engine.begin() as connection:
        when = func.clock_timestamp() - timedelta(seconds=ago_s)
        await connection.execute(
            update(of).values(tries=tries, try_time=when).where(of.c.shipment_id == id)
        )


async def test_pauses_between_tries_double(engine: AsyncEngine, subtests: pytest.Subtests) -> None:
    """With a patience of 10 s: 10, 20, 40 s, a minute at most; whoever takes it on has it for as
    long.
    """
    # Time goes on between the setting and the look: well before a pause is over, and just after it.
    its = fresh()
    await stored(engine, its)
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
            await tried(engine, its.id, ago_s, tries)
            async with engine.begin() as connection:
                assert await store.begin_tries_due(connection, 10, 50) == ([its.id] if due else [])
                assert await store.begin_tries_due(connection, 10, 50) == []
            [(count,)] = await rows(engine, "select tries from label_tries")
            assert count == tries + due


async def test_replicas_step_over_each_others_tries(engine: AsyncEngine) -> None:
    """Two that look at the same time take on different shipments, the longest waiting first, and
    none is taken twice.
    """
    several = [fresh() for _ in range(4)]
    await stored(engine, *several)
    for place, its in enumerate(several):
        await tried(engine, its.id, 60 - place, 1)
    async with engine.begin() as one, engine.begin() as other:
        first = await store.begin_tries_due(one, 10, 2)
        second = await store.begin_tries_due(other, 10, 50)
    assert set(first) == {its.id for its in several[:2]}
    assert set(second) == {its.id for its in several[2:]}


async def test_a_settled_label_waits_no_longer(engine: AsyncEngine) -> None:
    """The row of tries goes with the status, in the same transaction; the metrics count what is
    left.
    """
    its, other = fresh(create_time=NOON), fresh()
    await stored(engine, its, other)
    async with engine.begin() as connection:
        assert (await store.waiting_labels(connection))[0] == 2
        settled = replace(its, status=Status.FAILED, version=2)
        await store.save_shipments(
            connection, {its.id: its, other.id: other}, {its.id: settled}, []
        )
        assert (await store.waiting_labels(connection))[0] == 1
        await store.save_shipments(
            connection,
            {other.id: other},
            {other.id: replace(other, status=Status.FAILED, version=2)},
            [],
        )
        assert await store.waiting_labels(connection) == (0, 0.0)


async def test_recalls_wait_as_labels_do(engine: AsyncEngine) -> None:
    """Opened with the recall, due after a pause that doubles, taken on by one, gone with the
    answer; the metrics count what is open.
    """
    its, other = fresh(status="failed", create_time=NOON), fresh(status="failed")
    first, second = (
        RecallOpened(shipment_id=its.id, purchase=0, tracking_number="T1", time=NOON),
        RecallOpened(shipment_id=other.id, purchase=0, tracking_number="T2", time=NOON),
    )
    await stored(engine, its, other, more=(first, second))
    await tried(engine, its.id, 21, 2, recall_tries)
    await tried(engine, other.id, 19, 2, recall_tries)
    async with engine.begin() as connection:
        assert await store.find_recalls(connection, [its.id, uuid7()]) == [first]
        assert (await store.open_recalls(connection))[0] == 2
        assert await store.begin_recalls_due(connection, 10, 50) == [first]
        assert await store.begin_recalls_due(connection, 10, 50) == []
        await store.save_shipments(
            connection, {}, {}, [RecallClosed(its.id, 0, "T1"), RecallClosed(other.id, 0, "T2")]
        )
        assert await store.open_recalls(connection) == (0, 0.0)


async def test_each_purchase_is_recalled_by_itself(engine: AsyncEngine) -> None:
    """One that nobody has heard of is not asked for at once; heard of after all, it is, as if
    just opened. Each is closed alone, and by the answer to what was asked: not by one to before
    the sale was heard of.
    """
    its = fresh(status="failed", create_time=NOON)
    unheard, other = (
        RecallOpened(shipment_id=its.id, purchase=0, tracking_number=None, time=NOON),
        RecallOpened(shipment_id=its.id, purchase=1, tracking_number="T2", time=NOON),
    )
    await stored(engine, its, more=(unheard, other))
    heard = replace(unheard, tracking_number="T1")
    async with engine.begin() as connection:
        assert await store.find_recalls(connection, [its.id]) == [other]
        assert sorted(
            await store.begin_recalls_due(connection, 10, 50), key=attrgetter("purchase")
        ) == [unheard, other]
        await store.save_shipments(connection, {}, {}, [unheard, heard])
        assert sorted(
            await store.find_recalls(connection, [its.id]), key=attrgetter("purchase")
        ) == [heard, other]
        assert await store.begin_recalls_due(connection, 10, 50) == [heard]
        await store.save_shipments(connection, {}, {}, [RecallClosed(its.id, 0, None)])
        assert len(await store.find_recalls(connection, [its.id])) == 2
        await store.save_shipments(connection, {}, {}, [RecallClosed(its.id, 0, "T1")])
        assert await store.find_recalls(connection, [its.id]) == [other]


async def test_what_can_be_recalled_is_found_by_its_order_or_its_fulfilment(
    engine: AsyncEngine,
) -> None:
    """Neither what is at its end, nor what is recalled already, nor what is another order's; of
    every attempt.
    """
    order = uuid7()

    def one(place: int, **more: Any) -> Shipment:
        its = fresh(order_id=order, attempt=place + 1, **more)
        return replace(its, tracking_number=f"T{place}") if its.tracking_number else its

    several = [one(place, status=status) for place, status in enumerate(Status)]
    recalled = fresh(order_id=order, status="created", tracking_number="T99", recall_time=NOON)
    await stored(engine, *several, recalled, fresh())
    async with engine.connect() as connection:
        found = await store.find_living(connection, order_ids=[order, uuid7()])
        one_by_one = [
            await store.find_living(connection, fulfillment_ids=[its.fulfillment_id])
            for its in several
        ]
    living = [
        its
        for its in several
        if its.status in ("pending", "created", "in_transit", "out_for_delivery", "delivery_failed")
    ]
    assert sorted(map(tuple, found)) == sorted(
        (its.id, order, its.attempt, its.fulfillment_id) for its in living
    )
    assert sorted(tuple(row) for rows in one_by_one for row in rows) == sorted(map(tuple, found))


async def test_a_void_label_is_not_printed(engine: AsyncEngine) -> None:
    """The document is there still, and given out no more."""
    its, other = (
        fresh(status="voided", tracking_number="T1"),
        fresh(status="created", tracking_number="T2"),
    )
    await stored(engine, its, other, more=(KeptLabel(its.id, LABEL), KeptLabel(other.id, LABEL)))
    async with engine.connect() as connection:
        assert await store.find_label(connection, its.id) is None
        assert await store.find_label(connection, other.id) == replace(LABEL, tracking_number="T2")
        assert [
            await store.is_reported(connection, "sandbox", number) for number in ("T1", "T2", "T3")
        ] == [False] * 3
