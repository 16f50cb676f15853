"""ReserveStock, over a real channel and a real PostgreSQL."""

import asyncio
from collections import Counter
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Failure, Refused
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.requests import as_stored, count, receive, receive_all, reserve
from tests.integration.warehouse.reserving import ACTIVE, refusal
from warehouse_svc.tables import (
    idempotency_keys,
    movements,
    order_reservations,
    outbox,
    reservation_lines,
    reservations,
)


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
        ("tea", "requested 4, sellable 3", "INSUFFICIENT_STOCK"),
        ("Café, 咖啡", "requested 2, sellable 0", "INSUFFICIENT_STOCK"),
    ]
    assert refused.metadata["shortages"] == "2"
    second = [refused.metadata[f"{name}_2"] for name in ("sku", "requested", "sellable")]
    assert second == ["Café, 咖啡", "2", "0"]
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
