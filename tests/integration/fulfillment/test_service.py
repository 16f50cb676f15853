"""The whole service in this process: its server, its inbox, its relay and its worker, on real
PostgreSQL and NATS.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1.shipping_events_pb2 import DeliveryConfirmed, ShipmentCreated

from chassis.broker.stream import Broker
from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.errors import Refused
from chassis.values.event_subjects import stream_of, subject_of
from devstack.ports import free_ports
from fulfillment_svc.app import running
from fulfillment_svc.config import Config
from tests.integration.fulfillment.events import ONE_PLACE, items_cancelled, order_changed, shipment
from tests.integration.fulfillment.peers import FakeWarehouse, Peer
from tests.integration.fulfillment.requests import Fulfillments, asking, pack, pick
from tests.sample.contract_events import NOON
from tests.support import eventually


@pytest.fixture
async def fulfillments(
    fulfillment_url: str, nats_url: str, broker: Broker, warehouse_peer: Peer, shipping_peer: Peer
) -> AsyncIterator[Fulfillments]:
    """A client of the running service."""
    [port] = free_ports(1)
    config = Config(
        database_url=fulfillment_url,  # type: ignore[arg-type]  # it becomes a secret as it is read
        nats_url=nats_url,  # type: ignore[arg-type]  # likewise
        listen_address=f"127.0.0.1:{port}",
        warehouse_address=warehouse_peer.address,
        shipping_address=shipping_peer.address,
        pending_commit_interval_s=0.1,
        drain_delay_s=0.0,
    )
    async with running(config), client.connect(config.listen_address) as channel:
        yield FulfillmentServiceStub(channel)


async def publish(broker: Broker, aggregate: UUID, event: Message, *, times: int = 2) -> None:
    """Publishes an event so that the broker takes each repeat for a new message: the consumer alone
    can recognise it by its id.
    """
    event_id = uuid5(aggregate, event.DESCRIPTOR.full_name)
    for _ in range(times):
        headers = {
            "Nats-Msg-Id": str(uuid4()),
            "ce-id": str(event_id),
            "ce-type": event.DESCRIPTOR.full_name,
            "ce-subject": str(aggregate),
            "ce-time": datetime.now(UTC).isoformat(),
        }
        subject = subject_of(type(event))
        await broker.publish(subject, event.SerializeToString(), headers, stream=stream_of(subject))


async def published(broker: Broker) -> list[FulfillmentStatusChanged]:
    """Returns every event of the service's stream, in its order."""
    last = (await broker.streams.stream_info("FULFILLMENTS")).state.last_seq
    messages = [await broker.streams.get_msg("FULFILLMENTS", seq) for seq in range(1, last + 1)]
    return [FulfillmentStatusChanged.FromString(message.data or b"") for message in messages]


async def only(service: Fulfillments, order_id: UUID) -> pb.Fulfillment:
    """Returns the order's one fulfilment, once there is one."""

    async def there() -> list[pb.Fulfillment]:
        return list(
            (
                await ask(
                    service.ListFulfillments, api.ListFulfillmentsRequest(order_id=str(order_id))
                )
            ).fulfillments
        )

    [found] = await eventually(there)
    assert isinstance(found, pb.Fulfillment)
    return found


async def test_confirmed_order_is_fulfilled_until_delivery(
    fulfillments: Fulfillments, broker: Broker, order_id: UUID
) -> None:
    """From confirmation to delivery, every event comes twice, and the delivery's comes early.

    Each status is published once, in order, with the fulfilment as it stood then.
    """
    await publish(broker, order_id, order_changed(order_id))
    planned = await only(fulfillments, order_id)
    parcel = shipment(UUID(planned.fulfillment_id))
    await publish(
        broker, UUID(parcel.shipment_id), DeliveryConfirmed(shipment=parcel, deliver_time=NOON)
    )
    ready = await pack(fulfillments, await pick(fulfillments, planned))
    assert ready.status == pb.FULFILLMENT_STATUS_READY
    await publish(broker, UUID(parcel.shipment_id), ShipmentCreated(shipment=parcel))

    async def all_published() -> bool:
        return len(await published(broker)) >= 9

    await eventually(all_published)
    events = await published(broker)
    assert [event.new_status for event in events] == list(range(1, 10))
    assert [event.old_status for event in events] == list(range(9))
    # the scans were the fourth change
    assert [event.fulfillment.version for event in events] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert [event.fulfillment.status for event in events] == list(range(1, 10))
    assert [len(event.fulfillment.packages) for event in events] == [0] * 5 + [1] * 4
    assert [event.fulfillment.shipment_id for event in events] == [""] * 7 + [
        parcel.shipment_id
    ] * 2
    ended = await only(fulfillments, order_id)
    assert ended.status == pb.FULFILLMENT_STATUS_COMPLETED


async def test_units_cancelled_before_confirmation_are_cut(
    fulfillments: Fulfillments, broker: Broker, order_id: UUID
) -> None:
    """The event of cancelled units comes before the confirmation, each twice.

    The picklist leaves these units out, and the stream has the cut after the planning.
    """
    await publish(
        broker,
        order_id,
        items_cancelled(order_id, {"DOVER": [(1, "mug", 1), (2, "Lamp, blue", 1)]}),
    )
    await publish(broker, order_id, order_changed(order_id))
    planned = await only(fulfillments, order_id)
    assert [(line.quantity, line.cut_quantity) for line in planned.picklist] == [(1, 1), (1, 0)]

    async def all_published() -> bool:
        return (await broker.streams.stream_info("FULFILLMENTS")).state.last_seq >= 3

    await eventually(all_published)
    message = await broker.streams.get_msg("FULFILLMENTS", 3)
    assert message.subject == "fulfillments.fulfillment.lines_changed"
    event = FulfillmentLinesChanged.FromString(message.data or b"")
    assert (event.reason, event.fulfillment.version) == ("UNITS_CUT", 3)
    assert event.fulfillment == planned


async def test_pending_commit_is_recorded_by_the_worker(
    fulfillments: Fulfillments,
    broker: Broker,
    order_id: UUID,
    stock: FakeWarehouse,
    warehouse_peer: Peer,
) -> None:
    """The warehouse is down when the order is confirmed: the picking waits. It can begin soon after
    the warehouse is back, without an operator.
    """
    await warehouse_peer.down()
    stock.lines_by_warehouse = {str(order_id): ONE_PLACE}
    pending = order_pb2.STOCK_STATUS_COMMIT_PENDING
    await publish(broker, order_id, order_changed(order_id, stock=pending))
    waiting = await only(fulfillments, order_id)
    assert not waiting.stock_committed
    start = asking(api.StartPickingRequest, waiting.fulfillment_id)
    with pytest.raises(Refused) as caught:
        await ask(fulfillments.StartPicking, start)
    assert caught.value.reason == "STOCK_NOT_COMMITTED"
    await warehouse_peer.up()

    async def committed() -> bool:
        return (await only(fulfillments, order_id)).stock_committed

    # the breaker lets its probe through ten seconds after it opened
    await eventually(committed, timeout_s=30)
    assert (
        await ask(fulfillments.StartPicking, start)
    ).fulfillment.status == pb.FULFILLMENT_STATUS_PICKING
