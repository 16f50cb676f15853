"""Recalls by a call or by a closed order, concurrent with every other change of a shipment, through
crashes and outages.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, Failure, Invalid, NotFound, Refused, Stale
from chassis.write.database import Database
from shipping_svc.app import Operations
from shipping_svc.model.records import purchase_key
from shipping_svc.operations.carrier_calls import Timeouts
from shipping_svc.providers.sandbox import tracking_number_for
from tests.integration.shipping.peers import CountingCarrier, Crash, KnownOrders
from tests.integration.shipping.requests import (
    Shipping,
    cancel,
    create,
    fulfillment_cancelled,
    fulfillment_ready,
    order_closed,
    published_events,
    published_types,
    report,
    rows,
)
from tests.support import Eventually

AWAY = Deferred("DEPENDENCY_UNAVAILABLE", "away", peer="sandbox")
S = shipping_pb2.ShipmentStatus.Name
STEPS = "select old::text, new::text, reason, actor from history order by version"


async def created(shipping: Shipping, **more: Any) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create(**more))).shipment


async def cancelled(
    shipping: Shipping, shipment: shipping_pb2.Shipment, **more: Any
) -> shipping_pb2.Shipment:
    return (await ask(shipping.CancelShipment, cancel(shipment.shipment_id, **more))).shipment


async def reported(
    shipping: Shipping, shipment: shipping_pb2.Shipment, status: str, minute: int = 1
) -> shipping_pb2.Shipment:
    return (
        await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, status, minute))
    ).shipment


async def now(shipping: Shipping, shipment: shipping_pb2.Shipment) -> shipping_pb2.Shipment:
    return (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment.shipment_id))
    ).shipment


async def the_one(shipping: Shipping) -> shipping_pb2.Shipment:
    [shipment] = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    return shipment


async def open_recalls(engine: AsyncEngine) -> int:
    [(count,)] = await rows(engine, "select count(*) from recall_tries")
    return int(count)


def reports_after_void() -> float:
    value = REGISTRY.get_sample_value("shipping_reports_after_void_total")
    assert value is not None
    return value


async def recalls_answered(
    operations: Operations, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Runs the sweeper until the carrier has answered every recall."""

    async def is_answered() -> bool:
        await operations.recalls.retry_open_recalls()
        return not await open_recalls(engine)

    await eventually(is_answered)


# --- by a call


async def test_recall_before_the_first_scan_voids_the_label(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier
) -> None:
    """The shipment goes from created to voided: the recall and the void are a version and an event
    each, and the label can no longer be printed.

    Each later report is counted once.
    """
    shipment = await created(shipping)
    voided = await cancelled(shipping, shipment)
    assert (S(voided.status), voided.version, voided.status_reason) == (
        "SHIPMENT_STATUS_VOIDED",
        4,
        "RECALLED",
    )
    assert voided.HasField("recall_time")
    assert voided.tracking_number == shipment.tracking_number
    assert carrier.recalls == {shipment.tracking_number: 1}
    _, recalled, void = await published_events(engine)
    assert (recalled.old_status, recalled.new_status) == (shipment.status, shipment.status)  # type: ignore[attr-defined]
    assert (recalled.shipment.version, recalled.shipment.recall_time) == (3, voided.recall_time)  # type: ignore[attr-defined]
    assert void.shipment == voided  # type: ignore[attr-defined]
    assert (void.old_status, void.new_status) == (shipment.status, voided.status)  # type: ignore[attr-defined]
    assert [tuple(step) for step in await rows(engine, STEPS)][2:] == [
        ("created", "created", "RECALLED", "staff"),
        ("created", "voided", "RECALLED", "sandbox"),
    ]
    with pytest.raises(Refused) as refused:
        await ask(shipping.GetLabel, api.GetLabelRequest(shipment_id=shipment.shipment_id))
    assert refused.value.metadata == {"status": "voided", "allowed": ""}
    counted = reports_after_void()
    contradicted = await reported(shipping, shipment, "delivered")
    assert reports_after_void() == counted + 1
    assert (contradicted.status, contradicted.version) == (voided.status, voided.version + 1)
    assert (contradicted.status_reason, contradicted.contradict_time) == (
        "REPORTED_AFTER_VOID",
        contradicted.update_time,
    )
    assert await reported(shipping, shipment, "delivered") == contradicted
    assert reports_after_void() == counted + 1
    assert await reported(shipping, shipment, "returned_to_sender", 9) == contradicted
    assert reports_after_void() == counted + 2
    assert (await published_events(engine))[-1].shipment == contradicted  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ["returned_to_sender", "delivered", "lost"])
async def test_recalled_parcel_in_transit_ends_as_reported(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier, end: str
) -> None:
    """The parcel is recalled, and ends as the carrier reports: returned, lost, or delivered, with
    an event of the delivery.
    """
    shipment = await created(shipping)
    await reported(shipping, shipment, "in_transit")
    recalled = await cancelled(shipping, shipment)
    assert (S(recalled.status), recalled.version) == ("SHIPMENT_STATUS_IN_TRANSIT", 4)
    assert recalled.HasField("recall_time")
    assert await cancelled(shipping, shipment) == recalled, (
        "a repeated recall returns the shipment unchanged"
    )
    ended = await reported(shipping, shipment, end, 5)
    assert (S(ended.status), ended.recall_time) == (
        f"SHIPMENT_STATUS_{end.upper()}",
        recalled.recall_time,
    )
    assert (await published_types(engine)).count("DeliveryConfirmed") == (end == "delivered")
    assert carrier.recalls == {shipment.tracking_number: 1}
    assert await open_recalls(engine) == 0


async def test_a_shipment_without_a_label_fails(
    shipping: Shipping, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """The shipment goes from pending to failed, and no later request buys a label.

    A label that may have been sold is recalled once it is due, because its purchase may still be
    under way.
    """
    carrier.failure = AWAY
    request = create()
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, request)
    carrier.failure = None
    calls = carrier.calls.total()
    failed = await cancelled(shipping, await the_one(shipping))
    assert (S(failed.status), failed.status_reason) == ("SHIPMENT_STATUS_FAILED", "RECALLED")
    assert not failed.HasField("recall_time")
    for again in (
        request,
        create(fulfillment_id=request.fulfillment_id, order_id=request.order_id),
    ):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert (refused.value.reason, refused.value.metadata) == (
            "ILLEGAL_TRANSITION",
            {"status": "failed", "allowed": ""},
        )
    assert carrier.calls.total() == calls
    assert not carrier.recalls
    assert await open_recalls(engine) == 1
    assert await published_types(engine) == ["ShipmentStatusChanged"]
    assert await rows(engine, "select * from label_tries") == []


async def test_concurrent_recalls_recall_once(shipping: Shipping, engine: AsyncEngine) -> None:
    """The same request and others come at once: one recall, one void label. After the end another
    request is refused, a repeat is not.
    """
    shipment = await created(shipping)
    request = cancel(shipment.shipment_id)
    others = [cancel(shipment.shipment_id) for _ in range(5)]
    answers = await asyncio.gather(
        *(ask(shipping.CancelShipment, r) for r in [request, request, *others]),
        return_exceptions=True,
    )
    # A caller after the label is void gets the refusal that the shipment has ended.
    assert all(
        isinstance(answer, Refused) and answer.reason == "ILLEGAL_TRANSITION"
        for answer in answers
        if isinstance(answer, Failure)
    )
    voided = await now(shipping, shipment)
    assert (S(voided.status), voided.version) == ("SHIPMENT_STATUS_VOIDED", 4)
    assert await published_types(engine) == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "ShipmentStatusChanged",
    ]
    assert (await ask(shipping.CancelShipment, request)).shipment == voided
    with pytest.raises(Refused) as refused:
        await cancelled(shipping, shipment)
    assert refused.value.metadata == {"status": "voided", "allowed": ""}


async def test_refused_recall_has_its_reason(shipping: Shipping) -> None:
    """An unknown shipment, a stale version, and another body under the same request_id each get
    their reason, and the shipment does not change.
    """
    shipment = await created(shipping)
    with pytest.raises(NotFound) as unknown:
        await ask(shipping.CancelShipment, cancel(str(uuid4())))
    assert unknown.value.reason == "SHIPMENT_NOT_FOUND"
    with pytest.raises(Stale):
        await cancelled(shipping, shipment, expected_version=1)
    assert await now(shipping, shipment) == shipment
    request_id = str(uuid4())
    await cancelled(shipping, shipment, expected_version=2, request_id=request_id)
    with pytest.raises(Invalid) as reused:
        await cancelled(shipping, shipment, request_id=request_id)
    assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_recall_waits_for_an_unreachable_carrier(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The call is answered with the recall as it stands; the sweeper calls the carrier until it
    answers.
    """
    shipment = await created(shipping)
    carrier.failure = AWAY
    recalled = await cancelled(shipping, shipment)
    assert (recalled.status, recalled.version) == (shipment.status, 3)
    assert recalled.HasField("recall_time")
    assert await open_recalls(engine) == 1
    carrier.failure = None
    await recalls_answered(operations, engine, eventually)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"


@pytest.mark.parametrize("trouble", [Crash(), KeyError("a bug")], ids=["crash", "defect"])
async def test_unrecorded_void_label_is_recorded_later(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
    trouble: BaseException,
) -> None:
    """A crash or an error comes between the carrier's answer and the write: the recall is requested
    again under the same key, and published once.
    """
    shipment = await created(shipping)
    carrier.after_recall = trouble
    with suppress(Crash):
        await operations.closing.close_orders([order_closed(shipment.order_id)])
    assert (await now(shipping, shipment)).status == shipment.status
    carrier.after_recall = None
    await recalls_answered(operations, engine, eventually)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"
    assert carrier.recalls == {shipment.tracking_number: 2}
    assert await published_types(engine) == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "ShipmentStatusChanged",
    ]


async def test_hanging_carrier_blocks_no_recall(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    shipping: Shipping,
    engine: AsyncEngine,
) -> None:
    """A recall without an answer ends at its time limit, and the sweeper makes it."""
    shipment = await created(shipping)
    carrier.recall_answer.clear()
    replica = Operations(
        database=database, orders=orders, carrier=carrier, timeouts=Timeouts(label_timeout_s=0.1)
    )
    async with asyncio.timeout(20):
        assert [
            type(outcome)
            for outcome in await replica.closing.close_orders([order_closed(shipment.order_id)])
        ] == [Done]
    assert (await now(shipping, shipment)).HasField("recall_time")
    assert await open_recalls(engine) == 1


async def test_concurrent_sweepers_request_recall_once(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """Three replicas sweep after an outage: every label is void and published once, and the carrier
    gets one request for each.
    """
    requests = [create() for _ in range(60)]
    await operations.creation.create_shipments(list(map(fulfillment_ready, requests)))
    carrier.failure = AWAY
    await operations.closing.close_orders([order_closed(request.order_id) for request in requests])
    carrier.failure = None
    carrier.recalls.clear()
    async with engine.begin() as connection:
        await connection.execute(
            text("update recall_tries set try_time = try_time - interval '1 hour'")
        )
    replicas = [
        Operations(database=database, orders=orders, carrier=carrier, timeouts=Timeouts(retry_s=60))
        for _ in range(3)
    ]
    await asyncio.gather(*(replica.recalls.retry_open_recalls() for replica in replicas))
    assert await open_recalls(engine) == 0
    assert set(carrier.recalls.values()) == {1}
    assert [
        tuple(row)
        for row in await rows(
            engine, "select status::text, count(*) from shipments group by status"
        )
    ] == [("voided", 60)]
    assert (await published_types(engine)).count("ShipmentStatusChanged") == 120


# --- concurrent changes


async def test_recall_during_the_sale_recalls_the_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The shipment failed during the sale: the sold label is recalled, and the shipment stays
    failed.
    """
    carrier.sale.clear()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(create())]))
    await eventually(lambda: carrier.calls)
    failed = await cancelled(shipping, await the_one(shipping))
    carrier.sale.set()
    await sale
    await recalls_answered(operations, engine, eventually)
    assert await the_one(shipping) == failed
    assert carrier.recalls.total() == 1
    assert await published_types(engine) == ["ShipmentStatusChanged"]


async def test_label_of_unknown_sale_is_recalled(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process crashes at the carrier's answer, then the order closes. The label is recalled
    under the key of its purchase, once the carrier can be reached.
    """
    carrier.after_sale = Crash()
    request = create()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(request)])
    carrier.after_sale, carrier.failure = None, AWAY
    await operations.closing.close_orders([order_closed(request.order_id)])
    ended = await the_one(shipping)
    assert (S(ended.status), ended.status_reason) == ("SHIPMENT_STATUS_FAILED", "ORDER_CLOSED")

    async def is_recalled() -> bool:
        await operations.recalls.retry_open_recalls()
        return bool(carrier.recalls)

    await eventually(is_recalled)
    assert await open_recalls(engine) == 1
    carrier.failure = None
    await recalls_answered(operations, engine, eventually)
    assert set(carrier.recalls) == set(carrier.calls) == {purchase_key(UUID(ended.shipment_id), 0)}
    assert await the_one(shipping) == ended


async def test_order_closes_while_label_is_bought(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """In either order, the closing order finds the shipment or the shipment finds the closed order:
    no parcel goes to the customer.
    """
    requests = [create() for _ in range(30)]

    async def ships(request: api.CreateShipmentRequest) -> None:
        with suppress(Refused):
            await ask(shipping.CreateShipment, request)

    async def closes(place: int, request: api.CreateShipmentRequest) -> None:
        for _ in range(place % 6):  # each a little later than the one before
            await ask(shipping.ListShipments, api.ListShipmentsRequest())
        assert [
            type(outcome)
            for outcome in await operations.closing.close_orders([order_closed(request.order_id)])
        ] == [Done]

    await asyncio.gather(
        *map(ships, requests), *(closes(place, request) for place, request in enumerate(requests))
    )
    await recalls_answered(operations, engine, eventually)
    ended = await rows(engine, "select status::text from shipments")
    assert {status for (status,) in ended} <= {"voided", "failed"}
    [(alive,)] = await rows(engine, "select count(*) from label_tries")
    assert alive == 0


async def test_order_closes_while_label_is_stored(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The closing order finds a shipment whose label is being stored, waits for it, and recalls
    it.
    """
    carrier.sale.clear()
    request = create()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(request)]))
    await eventually(lambda: carrier.calls)
    async with engine.begin() as connection:
        await connection.execute(text("select 1 from shipments for no key update"))
        carrier.sale.set()
        closing = asyncio.create_task(
            operations.closing.close_orders([order_closed(request.order_id)])
        )

        async def both_wait() -> bool:
            waiting = (
                "select count(*) from pg_stat_activity where datname = current_database() and"
                " wait_event_type = 'Lock'"
            )
            return [tuple(row) for row in await rows(engine, waiting)] == [(2,)]

        await eventually(both_wait)
    await asyncio.gather(sale, closing)
    await recalls_answered(operations, engine, eventually)
    ended = await the_one(shipping)
    assert S(ended.status) in ("SHIPMENT_STATUS_VOIDED", "SHIPMENT_STATUS_FAILED")
    assert ended.status_reason == "ORDER_CLOSED"
    assert carrier.recalls.total() == 1


async def test_recall_during_a_report_has_one_outcome(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The shipment is void or on its way, never both. A parcel that the carrier reports first comes
    back by its reports.

    A report after the carrier's void is a contradiction, and the label stays void.
    """
    shipments = [await created(shipping) for _ in range(12)]
    recalls = [cancelled(shipping, shipment) for shipment in shipments]
    reports = [reported(shipping, shipment, "in_transit") for shipment in shipments]
    await asyncio.gather(*(work for both in zip(recalls, reports, strict=True) for work in both))
    await recalls_answered(operations, engine, eventually)
    for shipment in shipments:
        ended = await now(shipping, shipment)
        assert ended.HasField("recall_time")
        if ended.status != shipping_pb2.SHIPMENT_STATUS_VOIDED:
            assert (
                S((await reported(shipping, shipment, "returned_to_sender", 9)).status)
                == "SHIPMENT_STATUS_RETURNED_TO_SENDER"
            )
    assert [
        tuple(row)
        for row in await rows(
            engine,
            "select count(*) from history where old = 'voided' and new <> 'voided'"
            " or old = 'in_transit' and new = 'voided'",
        )
    ] == [(0,)]


async def test_report_before_the_write_of_a_void_keeps_the_recall(
    shipping: Shipping, engine: AsyncEngine, carrier: CountingCarrier, eventually: Eventually
) -> None:
    """The carrier answered void, and then scanned the parcel: the parcel is in transit, and still
    recalled.
    """
    shipment = await created(shipping)
    carrier.recall_answer.clear()
    recall = asyncio.create_task(cancelled(shipping, shipment))
    await eventually(lambda: carrier.recalls)
    await reported(shipping, shipment, "in_transit")
    carrier.recall_answer.set()
    answer = await recall
    assert (S(answer.status), answer.HasField("recall_time")) == (
        "SHIPMENT_STATUS_IN_TRANSIT",
        True,
    )
    assert (
        S((await reported(shipping, shipment, "delivered", 9)).status)
        == "SHIPMENT_STATUS_DELIVERED"
    )


# --- by the closing of the order


async def test_closing_order_recalls_shipped_parcels(
    shipping: Shipping, operations: Operations, engine: AsyncEngine
) -> None:
    """All shipments of the order change by their status: waiting ones are void, moving ones
    recalled, ended ones unchanged. Other orders' shipments stay.
    """
    order = str(uuid4())
    waiting, moving, delivered = [await created(shipping, order_id=order) for _ in range(3)]
    other, later = await created(shipping), await created(shipping, order_id=order, attempt=2)
    await reported(shipping, moving, "in_transit")
    delivered = await reported(shipping, delivered, "delivered")
    await operations.closing.close_orders([order_closed(order)])
    voided, recalled = await now(shipping, waiting), await now(shipping, moving)
    assert (S(voided.status), voided.status_reason) == ("SHIPMENT_STATUS_VOIDED", "ORDER_CLOSED")
    assert (S(recalled.status), recalled.status_reason) == (
        "SHIPMENT_STATUS_IN_TRANSIT",
        "ORDER_CLOSED",
    )
    assert recalled.HasField("recall_time")
    assert [await now(shipping, each) for each in (delivered, other, later)] == [
        delivered,
        other,
        later,
    ]


def _ends_after(steps: Sequence[str]) -> list[tuple[str, bool]]:
    """Returns the status of each shipment after these events, and whether it is recalled."""
    first_closing = min(steps.index("closing"), steps.index("late closing"))
    if first_closing < steps.index("creation"):
        return []
    if steps.index("creation") < steps.index("report") < first_closing:
        return [("SHIPMENT_STATUS_IN_TRANSIT", True)]
    return [("SHIPMENT_STATUS_VOIDED", True)]


async def test_closings_requests_and_reports_in_any_order(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    eventually: Eventually,
    subtests: pytest.Subtests,
) -> None:
    """In every order of the events, each delivered twice, the shipment of the closed order ends
    void or returned, or is not created. Each change is published once.
    """

    async def shipments(order_id: str) -> list[shipping_pb2.Shipment]:
        return list(
            (
                await ask(shipping.ListShipments, api.ListShipmentsRequest(order_id=order_id))
            ).shipments
        )

    async def ran(steps: Sequence[str]) -> None:
        request = create()
        creation, closing, late_closing = (
            fulfillment_ready(request),
            order_closed(request.order_id),
            order_closed(request.order_id, version=7),
        )

        async def deliver(step: str) -> None:
            if step == "report":
                for each in await shipments(request.order_id):
                    await reported(shipping, each, "in_transit")
                return
            events = (
                operations.creation.create_shipments([creation])
                if step == "creation"
                else operations.closing.close_orders(
                    [closing if step == "closing" else late_closing]
                )
            )
            assert [type(outcome) for outcome in await events] == [Done]

        for step in steps:
            await deliver(step)
            await deliver(step)
        await recalls_answered(operations, engine, eventually)
        before = await rows(engine, "select * from history order by shipment_id, version")
        async with engine.begin() as connection:
            await connection.execute(text("delete from idempotency_keys"))
        for step in ("creation", "closing", "late closing"):
            await deliver(step)
        assert await rows(engine, "select * from history order by shipment_id, version") == before
        assert [
            (S(each.status), each.HasField("recall_time"))
            for each in await shipments(request.order_id)
        ] == _ends_after(steps)
        every = [event.shipment for event in await published_events(engine)]  # type: ignore[attr-defined]
        mine = [each for each in every if each.order_id == request.order_id]
        assert [each.version for each in mine] == list(range(2, 2 + len(mine)))

    for steps in permutations(["creation", "closing", "report", "late closing"]):
        with subtests.test("-".join(steps)):
            await ran(steps)


async def test_closing_without_stored_recall_is_redelivered(
    shipping: Shipping, operations: Operations, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed order is stored, but its shipment could not be locked in time. The event is
    deferred, and recalls the shipment when it is delivered again.
    """
    shipment = await created(shipping)
    event = order_closed(shipment.order_id)
    with monkeypatch.context() as broken:
        broken.setattr(operations.closing.writer, "write", _away)
        [outcome] = await operations.closing.close_orders([event])
        assert isinstance(outcome, Deferred)
    assert await now(shipping, shipment) == shipment
    [again] = await operations.closing.close_orders([event])
    assert isinstance(again, Done)
    assert S((await now(shipping, shipment)).status) == "SHIPMENT_STATUS_VOIDED"


async def _away(commands: list[Any]) -> list[Outcome[Any]]:
    return [Deferred("DATABASE_UNAVAILABLE")] * len(commands)


# --- by the cancellation of a fulfilment


@pytest.mark.parametrize("first", ["creation", "closing"])
async def test_cancelled_fulfilment_is_not_shipped(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    first: str,
) -> None:
    """Request and event come in each order, and twice, with and without their keys. The label is
    void or never bought, and the other shipments of the order go on.
    """
    order = str(uuid4())
    request, other = create(order_id=order), await created(shipping, order_id=order)
    creation, closing = fulfillment_ready(request), fulfillment_cancelled(request.fulfillment_id)
    for _ in range(2):
        for step in ("creation", "closing") if first == "creation" else ("closing", "creation"):
            events = (
                operations.creation.create_shipments([creation, creation])
                if step == "creation"
                else operations.closing.close_fulfillments([closing, closing])
            )
            assert [type(outcome) for outcome in await events] == [Done, Done]
        async with engine.begin() as connection:
            await connection.execute(text("delete from idempotency_keys"))
    again = create(order_id=order, fulfillment_id=request.fulfillment_id)
    if first == "creation":
        voided = (await ask(shipping.CreateShipment, again)).shipment
        assert (S(voided.status), voided.version, voided.status_reason) == (
            "SHIPMENT_STATUS_VOIDED",
            4,
            "FULFILLMENT_CANCELLED",
        )
    else:
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, again)
        assert refused.value.reason == "ILLEGAL_TRANSITION"
        assert refused.value.metadata["fulfillment_id"] == request.fulfillment_id
    assert await now(shipping, other) == other
    assert carrier.calls.total() == (2 if first == "creation" else 1)
    assert [
        row.version for row in await rows(engine, "select version from closed_fulfillments")
    ] == [9]


async def test_cancellation_during_the_sale_leaves_no_valid_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The fulfilment is cancelled during the sale, or before the sweeper: no label stays valid,
    with or without a stored sale.
    """
    sold, waiting = create(), create()
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(waiting)])
    carrier.failure = None
    carrier.sale.clear()
    sale = asyncio.create_task(operations.creation.create_shipments([fulfillment_ready(sold)]))
    await eventually(lambda: carrier.calls.total() == 2)
    await operations.closing.close_fulfillments(
        [fulfillment_cancelled(sold.fulfillment_id), fulfillment_cancelled(waiting.fulfillment_id)]
    )
    carrier.sale.set()
    await sale
    await operations.labels.buy_pending_labels()
    await recalls_answered(operations, engine, eventually)
    found = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    assert {(S(each.status), each.status_reason) for each in found} == {
        ("SHIPMENT_STATUS_FAILED", "FULFILLMENT_CANCELLED")
    }
    purchases = {each.fulfillment_id: purchase_key(UUID(each.shipment_id), 0) for each in found}
    assert set(carrier.recalls) == {
        tracking_number_for(purchases[sold.fulfillment_id]),
        purchases[waiting.fulfillment_id],
    }
    for request in (sold, waiting):
        with pytest.raises(Refused) as refused:
            await ask(shipping.CreateShipment, request)
        assert refused.value.reason == "ILLEGAL_TRANSITION"
