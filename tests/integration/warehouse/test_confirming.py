"""Confirmation and release of reservations, in batches too, and lists of reservations."""

from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values import paging
from chassis.values.errors import Deferred, Invalid, NotFound
from chassis.write.outbox import EVENT_BYTES_MAX
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.requests import (
    as_stored,
    attempt,
    confirm,
    count,
    receive,
    release,
    reserve,
)
from tests.integration.warehouse.reserving import ACTIVE, CONFIRMED, refusal
from tests.support import Eventually, room_for
from tests.unit.warehouse.world import envelope
from warehouse_svc.app import Operations
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX
from warehouse_svc.model.commands import ReceiveStock, ReserveStock
from warehouse_svc.model.records import WantedLine
from warehouse_svc.operations import reservations as reservation_operations
from warehouse_svc.operations.reservations import RESERVATION_BYTES
from warehouse_svc.store.reservations import LINE_BYTES
from warehouse_svc.tables import movements, outbox
from warehouse_svc.wire import responses

RELEASED, EXPIRED = (
    warehouse_pb2.RESERVATION_STATUS_RELEASED,
    warehouse_pb2.RESERVATION_STATUS_EXPIRED,
)


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
        assert (refused.reason, refused.metadata["records_max"]) == ("ANSWER_TOO_LARGE", "2")
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
            largest = max(whole, key=lambda reservation: reservation.ByteSize())
            patch.setattr(paging, "ANSWER_BYTES_MAX", room_for(largest, largest, largest))
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
    assert [len(each.lines) for each in order_reservations.reservations] == [500] * WAREHOUSES_MAX
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
    assert [(each.status, len(each.lines)) for each in result.reservations] == [
        (CONFIRMED, 500)
    ] * WAREHOUSES_MAX
    answer = api.ReserveStockResponse(
        reservations=[responses.reservation(each) for each in order_reservations.reservations]
    )
    assert answer.ByteSize() < 4 * 2**20
    async with engine.connect() as connection:
        sizes = (await connection.execute(select(func.length(outbox.c.payload)))).scalars().all()
    assert 2**20 < max(sizes) <= EVENT_BYTES_MAX
