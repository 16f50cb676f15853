"""The reservation service's methods, over a real channel and a real PostgreSQL."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values import paging
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred, Failure, Invalid, NotFound, Refused
from chassis.write.database import Database
from chassis.write.outbox import EVENT_BYTES_MAX
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.requests import (
    as_stored,
    attempt,
    confirm,
    count,
    receive,
    receive_all,
    release,
    reserve,
)
from tests.support import Eventually, room_for
from tests.unit.warehouse.world import envelope
from warehouse_svc.app import Operations
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.decisions.posting import Decided
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX
from warehouse_svc.model.commands import ReceiveStock, ReserveStock
from warehouse_svc.model.records import OrderStock, WantedLine
from warehouse_svc.operations import reservations as reservation_operations
from warehouse_svc.operations.reservations import EXPIRY_BATCH, RESERVATION_BYTES
from warehouse_svc.store.reservations import LINE_BYTES, clock
from warehouse_svc.tables import (
    idempotency_keys,
    movements,
    order_reservations,
    outbox,
    reservation_lines,
    reservations,
)
from warehouse_svc.wire import responses

ACTIVE, CONFIRMED = (
    warehouse_pb2.RESERVATION_STATUS_ACTIVE,
    warehouse_pb2.RESERVATION_STATUS_CONFIRMED,
)
RELEASED, EXPIRED = (
    warehouse_pb2.RESERVATION_STATUS_RELEASED,
    warehouse_pb2.RESERVATION_STATUS_EXPIRED,
)


async def let_time_pass(engine: AsyncEngine) -> None:
    """Sets the expiry of all reservations to the past."""
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = clock_timestamp() - interval '1 second'")
        )


async def refusal(call: object) -> Failure:
    with pytest.raises(Failure) as refused:
        await call  # type: ignore[misc]  # any coroutine
    return refused.value


async def test_stock_is_reserved_for_half_an_hour(clients: Clients) -> None:
    """A request without a ttl reserves for half an hour."""
    await ask(clients.inventory.ReceiveStock, receive("london", tea=1))
    [reservation] = (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).reservations
    assert (
        reservation.expire_time.ToMilliseconds() - reservation.create_time.ToMilliseconds()
        == 30 * 60 * 1000
    )


async def test_all_lines_from_the_fewest_warehouses(clients: Clients, engine: AsyncEngine) -> None:
    """Reservations name the warehouse of each line's units, the expiry and the order; no unit is
    reserved twice.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=3, cup=1))
    await ask(clients.inventory.ReceiveStock, receive("york", tea=4))
    request = reserve(("cup", 1), ("tea", 6), ttl=Duration(seconds=90))
    response = await ask(clients.reservations.ReserveStock, request)
    assert response.order_id == request.order_id
    parts = {
        r.warehouse_id: [(line.line_number, line.sku, line.reserved) for line in r.lines]
        for r in response.reservations
    }
    assert parts == {"london": [(1, "cup", 1), (2, "tea", 2)], "york": [(2, "tea", 4)]}
    for r in response.reservations:
        assert (r.order_id, r.attempt, r.generation, r.status, r.version) == (
            request.order_id,
            1,
            1,
            ACTIVE,
            1,
        )
        assert r.expire_time.ToMilliseconds() - r.create_time.ToMilliseconds() == 90_000
        assert (
            await ask(
                clients.reservations.GetReservation,
                api.GetReservationRequest(reservation_id=r.reservation_id),
            )
        ).reservation == r
    (await as_stored(engine)).check()


async def test_short_stock_names_each_sku_and_stores_nothing(
    clients: Clients, engine: AsyncEngine
) -> None:
    """The refusal names the requested and the sellable units, as text and as fields, for any name
    of the SKU.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=3))
    before = await count(engine, idempotency_keys, order_reservations, movements, outbox)
    refused = await refusal(
        ask(clients.reservations.ReserveStock, reserve(("tea", 3), ("tea", 1), ("Café, 咖啡", 2)))
    )
    assert (type(refused), refused.reason) == (Refused, "INSUFFICIENT_STOCK")
    assert [(v.subject, v.description, v.kind) for v in refused.violations] == [
        ("tea", "asked 4, left 3", "INSUFFICIENT_STOCK"),
        ("Café, 咖啡", "asked 2, left 0", "INSUFFICIENT_STOCK"),
    ]
    assert refused.metadata["shortages"] == "2"
    assert (refused.metadata["sku_2"], refused.metadata["asked_2"], refused.metadata["left_2"]) == (
        "Café, 咖啡",
        "2",
        "0",
    )
    assert await count(engine, idempotency_keys, order_reservations, movements, outbox) == before


async def test_refusal_of_500_skus_reaches_the_caller(clients: Clients) -> None:
    """500 SKUs with long names of any script are short: the refusal names as many of them as a
    status can carry, and their number.
    """
    wanted = [("茶" * 60 + f"{n:04}", 1_000_000) for n in range(500)]
    refused = await refusal(ask(clients.reservations.ReserveStock, reserve(*wanted)))
    assert (refused.reason, refused.metadata["shortages"]) == ("INSUFFICIENT_STOCK", "500")
    assert refused.metadata["sku_10"] == wanted[9][0]


async def test_repeat_answers_with_the_first_reservation(
    clients: Clients, engine: AsyncEngine
) -> None:
    """The repeat proposes any order_id; with other lines it is refused."""
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    request = reserve(("tea", 2))
    first = await ask(clients.reservations.ReserveStock, request)
    request.order_id = str(uuid4())
    assert await ask(clients.reservations.ReserveStock, request) == first
    request.lines[0].quantity = 3
    assert (
        await refusal(ask(clients.reservations.ReserveStock, request))
    ).reason == "REQUEST_ID_REUSED"
    assert await count(engine, order_reservations, reservations, reservation_lines) == [1, 1, 1]
    (await as_stored(engine)).check()


async def test_concurrent_repeats_reserve_once(clients: Clients, engine: AsyncEngine) -> None:
    """Twenty requests come at once, each with an order_id of its own: one order, one
    reservation.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=99))
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(
            ask(clients.reservations.ReserveStock, reserve(("tea", 2), request_id=request_id))
            for _ in range(20)
        )
    )
    assert len({answer.order_id for answer in answers}) == 1
    assert await count(engine, order_reservations, reservations) == [1, 1]


async def test_concurrent_requests_for_one_attempt_reserve_once(
    clients: Clients, engine: AsyncEngine
) -> None:
    """Twenty requests for the same order come at once, over different SKUs so that no stock makes
    them wait: one succeeds, the others are refused.
    """
    await ask(
        clients.inventory.ReceiveStock, receive_all("london", {f"sku{n}": 9 for n in range(20)})
    )
    order_id = str(uuid4())
    calls = (
        ask(clients.reservations.ReserveStock, reserve((f"sku{n}", 1), order_id=order_id))
        for n in range(20)
    )
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert Counter(o.reason if isinstance(o, Failure) else "done" for o in outcomes) == {
        "done": 1,
        "RESERVATION_CLOSED": 19,
    }
    (await as_stored(engine)).check()


async def test_repeated_request_replaces_its_expired_reservation(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """A repeat replaces it under the first order, before or after the worker's expiry. Concurrent
    repeats make one reservation, again and again.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=2))
    request = reserve(("tea", 2))
    first = await ask(clients.reservations.ReserveStock, request)
    for generation, worker in ((2, True), (3, False)):
        await let_time_pass(engine)
        if worker:
            assert await operations.reservations.expire_reservations() == 1
        request.order_id = str(uuid4())
        answers = await asyncio.gather(
            *(ask(clients.reservations.ReserveStock, request) for _ in range(5))
        )
        assert all(answer == answers[0] for answer in answers)
        assert answers[0].order_id == first.order_id
        [new] = answers[0].reservations
        assert (new.status, new.generation, new.lines[0].reserved) == (ACTIVE, generation, 2)
    assert [
        line.reserved
        for line in (await ask(clients.reservations.ConfirmReservation, confirm(first.order_id)))
        .reservations[0]
        .lines
    ] == [0]
    (await as_stored(engine)).check()


async def test_late_repeat_extends_the_reservation(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The first call fails before its order is placed, and the repeat comes 25 of 35 minutes later.
    An order that is placed now can be paid for 30 minutes, and its stock is reserved for longer.

    Concurrent repeats extend the reservation once; it stays the same, and no event is published.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    request = reserve(("tea", 2), ttl=Duration(seconds=35 * 60))
    [first] = (await ask(clients.reservations.ReserveStock, request)).reservations
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = expire_time - interval '25 minutes'")
        )
    before = await count(engine, movements, outbox)
    answers = await asyncio.gather(
        *(ask(clients.reservations.ReserveStock, request) for _ in range(5))
    )
    assert all(answer == answers[0] for answer in answers)
    [again] = answers[0].reservations
    async with engine.connect() as connection:
        now = await clock(connection)
    assert again.expire_time.ToDatetime(now.tzinfo) - now > timedelta(minutes=30)
    assert (again.reservation_id, again.generation, again.version) == (
        first.reservation_id,
        1,
        first.version + 1,
    )
    assert (
        await ask(
            clients.reservations.GetReservation,
            api.GetReservationRequest(reservation_id=first.reservation_id),
        )
    ).reservation == again
    assert await count(engine, movements, outbox) == before
    (await as_stored(engine)).check()


async def test_expiry_continues_after_orders_that_fail(
    clients: Clients, engine: AsyncEngine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orders that cannot be written come before three others, in batches of two. The others
    expire in the same run, which then raises the error.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    order_ids = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).order_id
        for _ in range(5)
    ]
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = create_time - interval '1 hour'")
        )

    def failing(record: OrderStock | None, command: Envelope[Any], now: datetime) -> Decided:
        if str(command.target) in order_ids[:2]:
            raise RuntimeError("never")
        return decide(record, command, now)

    monkeypatch.setattr("warehouse_svc.app.decide", failing)
    monkeypatch.setattr("warehouse_svc.operations.reservations.EXPIRY_BATCH", 2)
    with pytest.raises(Defect):
        await Operations(database).reservations.expire_reservations()
    async with engine.connect() as connection:
        rows = await connection.execute(select(reservations.c.order_id, reservations.c.status))
    assert {str(id): status for id, status in rows} == dict.fromkeys(
        order_ids[:2], "active"
    ) | dict.fromkeys(order_ids[2:], "expired")


async def test_expiry_continues_after_a_full_batch(
    clients: Clients, engine: AsyncEngine, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full batch of reservations, of half as many orders, does not end the expiry."""
    await ask(clients.inventory.ReceiveStock, receive("london", tea=3))
    await ask(clients.inventory.ReceiveStock, receive("york", cup=3))
    for _ in range(3):
        await ask(clients.reservations.ReserveStock, reserve(("tea", 1), ("cup", 1)))
    await let_time_pass(engine)
    monkeypatch.setattr("warehouse_svc.operations.reservations.EXPIRY_BATCH", 2)
    assert await operations.reservations.expire_reservations() == 3
    async with engine.connect() as connection:
        assert Counter((await connection.execute(select(reservations.c.status))).scalars()) == {
            "expired": 6
        }


async def test_expired_reservation_of_sold_units_is_not_replaced(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The repeat is answered with the missing units."""
    await ask(clients.inventory.ReceiveStock, receive(tea=2))
    request = reserve(("tea", 2))
    await ask(clients.reservations.ReserveStock, request)
    await let_time_pass(engine)
    await operations.reservations.expire_reservations()
    await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))
    refused = await refusal(ask(clients.reservations.ReserveStock, request))
    assert (refused.reason, refused.metadata["left_1"]) == ("INSUFFICIENT_STOCK", "1")


async def test_all_reservations_of_an_order_confirm_together(
    clients: Clients, engine: AsyncEngine
) -> None:
    """One call confirms the order's reservations over two warehouses; the same request again, and
    another one, change nothing.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=1))
    await ask(clients.inventory.ReceiveStock, receive("york", tea=1))
    order_id = (await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))).order_id
    request = confirm(order_id)
    answer = await ask(clients.reservations.ConfirmReservation, request)
    assert [
        (r.status, r.lines[0].committed, r.HasField("expire_time")) for r in answer.reservations
    ] == [(CONFIRMED, 1, False)] * 2
    posted = await count(engine, movements, outbox)
    assert await ask(clients.reservations.ConfirmReservation, request) == answer
    assert await ask(clients.reservations.ConfirmReservation, confirm(order_id)) == answer
    assert await count(engine, movements, outbox) == posted
    (await as_stored(engine)).check()


async def test_a_batch_answers_for_each_order(clients: Clients, engine: AsyncEngine) -> None:
    """Each order of a batch succeeds or fails alone. A batch with another batch's request_id fails
    as a whole, and a repeat gets the same answer.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    good, released = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))).order_id
        for _ in range(2)
    ]
    await ask(clients.reservations.ReleaseReservation, release(released))
    unknown = str(uuid4())
    request = api.BatchConfirmReservationsRequest(
        request_id=str(uuid4()),
        order_attempts=[
            attempt(unknown),
            attempt(good),
            attempt(released),
            attempt(str(uuid4()), 7),
        ],
    )
    for _ in range(2):
        results = (await ask(clients.reservations.BatchConfirmReservations, request)).results
        assert [r.order_id for r in results] == [each.order_id for each in request.order_attempts]
        assert [r.failure.reason for r in results] == [
            "RESERVATION_NOT_FOUND",
            "",
            "RESERVATION_CLOSED",
            "RESERVATION_NOT_FOUND",
        ]
        assert [r.HasField("failure") for r in results] == [True, False, True, True]
        assert not any(r.failure.retryable for r in results)
        assert [r.status for r in results[1].reservations] == [CONFIRMED]
    request.order_attempts.pop()
    refused = await refusal(ask(clients.reservations.BatchConfirmReservations, request))
    assert (type(refused), refused.reason) == (Invalid, "REQUEST_ID_REUSED")
    (await as_stored(engine)).check()


async def test_a_batch_too_large_is_refused_before_it_acts(
    clients: Clients, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch changes nothing, and the reason names the number of orders that fit. That many
    orders, and all of them without lines, are answered.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    held = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).order_id
        for _ in range(3)
    ]
    posted = await count(engine, movements)
    room = WAREHOUSES_MAX * (RESERVATION_BYTES + LINE_BYTES + len("tea"))
    monkeypatch.setattr(reservation_operations, "ANSWER_BYTES_MAX", 2 * room)
    confirming = api.BatchConfirmReservationsRequest(
        request_id=str(uuid4()), order_attempts=map(attempt, held)
    )
    releasing = api.BatchReleaseReservationsRequest(
        request_id=str(uuid4()), order_attempts=map(attempt, held)
    )
    for refused in (
        await refusal(ask(clients.reservations.BatchConfirmReservations, confirming)),
        await refusal(ask(clients.reservations.BatchReleaseReservations, releasing)),
    ):
        assert (refused.reason, refused.metadata["fitting"]) == ("ANSWER_TOO_LARGE", "2")
    assert await count(engine, movements) == posted
    some = api.BatchConfirmReservationsRequest(
        request_id=str(uuid4()), order_attempts=map(attempt, held[:2])
    )
    results = (await ask(clients.reservations.BatchConfirmReservations, some)).results
    assert [len(r.reservations[0].lines) for r in results] == [1, 1]
    every = api.BatchConfirmReservationsRequest(
        request_id=str(uuid4()), order_attempts=map(attempt, held), view=VIEW_SUMMARY
    )
    results = (await ask(clients.reservations.BatchConfirmReservations, every)).results
    assert [(r.reservations[0].status, len(r.reservations[0].lines)) for r in results] == [
        (CONFIRMED, 0)
    ] * 3


def test_counted_size_bounds_the_longest_reservation() -> None:
    """The size with which an answer is computed beforehand is the maximum of the longest
    reservation.
    """
    name = "\N{SNOWMAN}" * 64
    most, time = 2**31 - 1, Timestamp(seconds=2**33, nanos=999_999_999)
    line = warehouse_pb2.ReservationLine(
        line_number=500,
        sku=name,
        quantity=most,
        reserved=most,
        released=most,
        committed=most,
        uncommitted=most,
        shipped=most,
        written_off=most,
        spoiled=most,
    )
    one = warehouse_pb2.Reservation(
        reservation_id=str(uuid4()),
        order_id=str(uuid4()),
        attempt=most,
        generation=most,
        warehouse_id=name,
        status=EXPIRED,
        version=2**62,
        create_time=time,
        expire_time=time,
        update_time=time,
    )
    assert {field.name for field in one.DESCRIPTOR.fields} == {
        field.name for field, _ in one.ListFields()
    } | {"lines"}
    assert {field.name for field in line.DESCRIPTOR.fields} == {
        field.name for field, _ in line.ListFields()
    }
    assert one.ByteSize() <= RESERVATION_BYTES
    assert line.ByteSize() <= LINE_BYTES + len(name.encode())
    assert WAREHOUSES_MAX * (RESERVATION_BYTES + 500 * (LINE_BYTES + 256)) < paging.ANSWER_BYTES_MAX


async def test_release_of_all_or_of_a_part(clients: Clients, engine: AsyncEngine) -> None:
    """The released units of a line are a target; the batch releases the remaining ones; confirmed
    units stay.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    order_id, confirmed = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 3)))).order_id
        for _ in range(2)
    ]
    await ask(clients.reservations.ConfirmReservation, confirm(confirmed))
    lines = [api.ReleaseLine(line_number=1, released_quantity=1)]
    for _ in range(2):
        [part] = (
            await ask(clients.reservations.ReleaseReservation, release(order_id, lines=lines))
        ).reservations
        assert (part.status, part.lines[0].reserved, part.lines[0].released) == (ACTIVE, 2, 1)
    lines[0].released_quantity = 4
    assert (
        await refusal(ask(clients.reservations.ReleaseReservation, release(order_id, lines=lines)))
    ).reason == "QUANTITY_OUT_OF_RANGE"
    batch = api.BatchReleaseReservationsRequest(
        request_id=str(uuid4()), order_attempts=[attempt(order_id), attempt(confirmed)]
    )
    results = (await ask(clients.reservations.BatchReleaseReservations, batch)).results
    assert [r.reservations[0].status for r in results] == [RELEASED, CONFIRMED]
    world = await as_stored(engine)
    assert world.balances("london", "tea") == (6, 0, 3, 0)
    world.check()


async def test_confirmation_after_expiry_uses_another_warehouse(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """Before the worker expires the order, it confirms as usual. Afterwards it confirms from
    another warehouse, and is refused once the units are sold.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=3))
    early, late, never = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).order_id
        for _ in range(3)
    ]
    await let_time_pass(engine)
    await ask(clients.reservations.ConfirmReservation, confirm(early))
    assert await operations.reservations.expire_reservations() == 2
    await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))
    await ask(clients.inventory.ReceiveStock, receive("york", tea=1))
    [new] = (await ask(clients.reservations.ConfirmReservation, confirm(late))).reservations
    assert (new.warehouse_id, new.status, new.generation) == ("york", CONFIRMED, 2)
    refused = await refusal(ask(clients.reservations.ConfirmReservation, confirm(never)))
    assert (type(refused), refused.reason) == (Refused, "RESERVATION_EXPIRED")
    assert [(v.subject, v.description) for v in refused.violations] == [("tea", "asked 1, left 0")]
    (await as_stored(engine)).check()


async def test_expiry_in_batches_by_several_replicas(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """More orders than a batch holds, three concurrent workers: each reservation expires once, and
    its units are free.
    """
    many = EXPIRY_BATCH + 20
    await ask(clients.inventory.ReceiveStock, receive(tea=2 * many))
    await asyncio.gather(
        *(
            ask(clients.reservations.ReserveStock, reserve(("tea", 1), ("tea", 1)))
            for _ in range(many)
        )
    )
    assert await operations.reservations.expire_reservations() == 0
    await let_time_pass(engine)
    await asyncio.gather(*(operations.reservations.expire_reservations() for _ in range(3)))
    while await operations.reservations.expire_reservations():
        pass  # orders that one worker was writing were left out by the others
    async with engine.connect() as connection:
        expired = list((await connection.execute(select(reservations.c.status))).scalars())
    assert Counter(expired) == {"expired": many}
    world = await as_stored(engine)
    assert world.balances("london", "tea") == (2 * many, 0, 0, 0)
    world.check()


@pytest.mark.parametrize(
    ("page_size", "bounded", "sizes"), [(2, False, [2, 2, 2]), (1000, True, [3, 3])]
)
async def test_reading_reservations(
    clients: Clients,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    bounded: bool,
    sizes: list[int],
) -> None:
    """Reservations come newest first, by pages no larger than a client accepts; by order, warehouse
    and status.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=9))
    await ask(clients.inventory.ReceiveStock, receive("york", cup=9))
    wanted = [
        (("tea", 1), ("cup", 1)),
        (("tea", 1), ("cup", 1), ("tea", 1)),
        (("tea", 1), ("cup", 1)),
    ]
    made = [
        (await ask(clients.reservations.ReserveStock, reserve(*lines))).order_id for lines in wanted
    ]
    await ask(clients.reservations.ConfirmReservation, confirm(made[1]))
    every = api.ListReservationsRequest()
    whole = (await ask(clients.reservations.ListReservations, every)).reservations
    with monkeypatch.context() as patch:
        if bounded:
            patch.setattr(
                paging,
                "ANSWER_BYTES_MAX",
                room_for(*[max(whole, key=lambda its: its.ByteSize())] * 3),
            )
        found = [
            [r.reservation_id for r in page]
            async for page in pages(
                clients.reservations.ListReservations, every, "reservations", size=page_size
            )
        ]
    assert list(map(len, found)) == sizes
    seen = [id for page in found for id in page]
    assert seen == sorted(seen, reverse=True)
    summary = await ask(
        clients.reservations.ListReservations, api.ListReservationsRequest(view=VIEW_SUMMARY)
    )
    assert [(r.reservation_id, len(r.lines)) for r in summary.reservations] == [
        (id, 0) for id in seen
    ]
    assert len(set(seen)) == 6
    some = api.ListReservationsRequest(
        order_id=made[1], warehouse_id="york", statuses=[CONFIRMED, EXPIRED]
    )
    [one] = (await ask(clients.reservations.ListReservations, some)).reservations
    assert (one.order_id, one.lines[0].sku) == (made[1], "cup")
    unknown = api.GetReservationRequest(reservation_id=str(uuid4()))
    refused = await refusal(ask(clients.reservations.GetReservation, unknown))
    assert (type(refused), refused.reason) == (NotFound, "RESERVATION_NOT_FOUND")


async def test_largest_order_is_confirmed_and_can_be_published(
    operations: Operations, clients: Clients, engine: AsyncEngine, eventually: Eventually
) -> None:
    """500 lines are each split over the 8 warehouses that may serve an order, with names of 256
    bytes. The order is reserved and confirmed.

    gRPC accepts each answer (4 MiB), and the broker accepts each event.
    """
    skus = [f"{number:03}" + 61 * "\U0001f4e6" for number in range(500)]
    order_id, units = uuid4(), dict.fromkeys(skus, 1)
    for number in range(WAREHOUSES_MAX):
        name = f"{number:02}" + 62 * "\U0001f3ed"
        await operations.stock.receive_stock(
            envelope(ReceiveStock, target=uuid4(), warehouse_id=name, quantities=units)
        )
    lines = tuple(WantedLine(number, sku, WAREHOUSES_MAX) for number, sku in enumerate(skus, 1))
    order_reservations = await operations.reservations.reserve_stock(
        envelope(ReserveStock, target=order_id, attempt=1, lines=lines, ttl=timedelta(hours=1))
    )
    assert [len(its.lines) for its in order_reservations.reservations] == [500] * WAREHOUSES_MAX
    attempts = [api.OrderAttempt(order_id=str(order_id), attempt=1)]
    confirm_it = api.BatchConfirmReservationsRequest(
        request_id=str(uuid4()), order_attempts=attempts
    )

    async def confirmed() -> api.BatchConfirmReservationsResponse | None:
        """Sends the request again after its 5 s, as the order service does."""
        with suppress(Deferred):
            return await ask(clients.reservations.BatchConfirmReservations, confirm_it)
        return None

    [result] = (await eventually(confirmed, timeout_s=60)).results
    assert [(its.status, len(its.lines)) for its in result.reservations] == [
        (CONFIRMED, 500)
    ] * WAREHOUSES_MAX
    answer = api.ReserveStockResponse(
        reservations=[responses.reservation(its) for its in order_reservations.reservations]
    )
    assert answer.ByteSize() < 4 * 2**20
    async with engine.connect() as connection:
        sizes = (await connection.execute(select(func.length(outbox.c.payload)))).scalars().all()
    assert 2**20 < max(sizes) <= EVENT_BYTES_MAX
