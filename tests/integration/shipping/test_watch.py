"""WatchShipment over the running server: the shipment, each change, heartbeats, a resumed watch,
and the end.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias, cast
from uuid import UUID, uuid4

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.rpc import watch_client
from chassis.rpc.client import ask
from chassis.values.convert import resume_token
from chassis.values.errors import Invalid, NotFound, OutOfRange
from shipping_svc.app import Operations
from shipping_svc.wire import enums
from tests.integration.shipping.requests import Shipping, create, report
from tests.support import Eventually

Updates: TypeAlias = AsyncGenerator[api.WatchShipmentResponse, None]


async def created(shipping: Shipping) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create())).shipment


def watch(shipping: Shipping, shipment: shipping_pb2.Shipment, resume_token: str = "") -> Updates:
    request = api.WatchShipmentRequest(shipment_id=shipment.shipment_id, resume_token=resume_token)
    return cast(Updates, watch_client.responses(shipping.WatchShipment, request))


async def changes(updates: Updates) -> list[tuple[int, str]]:
    """Returns version and status of the messages about the shipment until the watch ends, without
    heartbeats.
    """
    return [
        (u.shipment.version, enums.STATUS_OF[u.shipment.status])
        async for u in updates
        if u.WhichOneof("update") == "shipment"
    ]


async def next_change(updates: Updates) -> api.WatchShipmentResponse:
    async for update in updates:
        if update.WhichOneof("update") == "shipment":
            return update
    raise AssertionError("the watch is over")


async def test_watch_sends_every_change_up_to_end(shipping: Shipping) -> None:
    """The watch sends the shipment at once, then each change as it happens, and ends after the
    terminal status.
    """
    shipment = await created(shipping)
    seen = []
    async with aclosing(watch(shipping, shipment)) as updates:
        for status in ("in_transit", "out_for_delivery", "delivered"):
            seen.append((await next_change(updates)).shipment)
            await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, status))
        seen += [
            update.shipment async for update in updates if update.WhichOneof("update") == "shipment"
        ]
    assert seen[0] == shipment
    assert [(each.version, enums.STATUS_OF[each.status]) for each in seen] == [
        (2, "created"),
        (3, "in_transit"),
        (4, "out_for_delivery"),
        (5, "delivered"),
    ]


async def test_resumed_watch_sends_later_changes(shipping: Shipping) -> None:
    """With the last resume_token only later changes are sent; after the end, none."""
    shipment = await created(shipping)
    async with aclosing(watch(shipping, shipment)) as updates:
        token = (await next_change(updates)).resume_token
    await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, "in_transit"))
    await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, "lost"))
    async with asyncio.timeout(30):
        updates = watch(shipping, shipment, token)
        last = await next_change(updates)
        assert (last.shipment.version, last.shipment.status) == (
            4,
            shipping_pb2.SHIPMENT_STATUS_LOST,
        )
        assert await changes(updates) == []
        assert await changes(watch(shipping, shipment, last.resume_token)) == []


async def test_silent_watch_sends_heartbeats(shipping: Shipping) -> None:
    """Heartbeats come while the shipment does not change, with the server's time and a token to
    resume from.
    """
    shipment = await created(shipping)
    async with aclosing(watch(shipping, shipment)) as updates:
        first, *beats = [await anext(updates) for _ in range(3)]
    assert [beat.WhichOneof("update") for beat in beats] == ["heartbeat", "heartbeat"]
    assert beats[0].heartbeat.server_time.ToDatetime() < beats[1].heartbeat.server_time.ToDatetime()
    assert {beat.resume_token for beat in beats} == {first.resume_token}


async def test_watches_of_one_shipment_all_receive_its_end(shipping: Shipping) -> None:
    """30 watches of one shipment all receive its end."""
    shipment = await created(shipping)
    watching = [asyncio.create_task(changes(watch(shipping, shipment))) for _ in range(30)]
    await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, "delivered"))
    async with asyncio.timeout(30):
        assert {seen_by_one[-1] for seen_by_one in await asyncio.gather(*watching)} == {
            (3, "delivered")
        }


async def test_cancelled_watch_is_removed(
    shipping: Shipping, operations: Operations, eventually: Eventually
) -> None:
    """A client that leaves its watch leaves no state in the server."""
    shipment = await created(shipping)
    async with aclosing(watch(shipping, shipment)) as updates:
        await next_change(updates)
        assert operations.reading.watches._watchers
    await eventually(lambda: not operations.reading.watches._watchers)


async def test_watch_with_an_invalid_id_or_token_is_refused(shipping: Shipping) -> None:
    """Refused: an unknown shipment, another one's token, an invalid token, and a token of a version
    that the shipment has not reached.
    """
    shipment, other = await created(shipping), await created(shipping)
    with pytest.raises(NotFound) as unknown:
        await changes(watch(shipping, shipping_pb2.Shipment(shipment_id=str(uuid4()))))
    assert unknown.value.reason == "SHIPMENT_NOT_FOUND"
    async with aclosing(watch(shipping, other)) as updates:
        foreign = (await next_change(updates)).resume_token
    for token in (foreign, "nonsense", "é"):
        with pytest.raises(Invalid) as refused:
            await changes(watch(shipping, shipment, token))
        assert [violation.subject for violation in refused.value.violations] == ["resume_token"]
    with pytest.raises(OutOfRange) as ahead:
        await changes(watch(shipping, shipment, resume_token(UUID(shipment.shipment_id), 99)))
    assert ahead.value.reason == "WATCH_TOKEN_EXPIRED"
