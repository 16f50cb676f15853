"""Protobuf to model and back: the command of each event, and every published field."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2 as events
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.consume.delivery import Delivery
from chassis.values.convert import timestamp
from chassis.values.envelope import Envelope
from chassis.values.errors import Invalid
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import RequestContext
from shipping_svc.lifecycle import Status
from shipping_svc.model.commands import CancelShipment, CloseFulfillment, CloseOrder
from shipping_svc.model.events import Created, Delivered, StatusChanged
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import Recipient, Report, Transition
from shipping_svc.wire import enums, events_in, events_out, requests, responses
from tests.unit.shipping.samples import (
    FULFILLMENT,
    NOON,
    ORDER,
    SHIPMENT,
    shipment,
    shipment_request,
)

REQUEST = RequestContext(
    key="/Service/Method:r",
    request_hash=b"digest",
    claimed_actor="staff:7f3a",
    note="wrong address",
)
EVENT = Delivery(
    event_id=UUID(int=9),
    key="shipping-x:1",
    request_hash=b"digest",
    message=OrderStatusChanged(),
    time=NOON,
)


def of_event(command: object, target: UUID, actor: str) -> Envelope[object]:
    """Returns the envelope of the event's command."""
    return Envelope(
        key="shipping-x:1",
        request_hash=b"digest",
        target=target,
        actor=actor,
        cause=str(UUID(int=9)),
        command=command,
    )


READY = fulfillment_pb2.FULFILLMENT_STATUS_READY
FULFILLED = fulfillment_pb2.Fulfillment(
    fulfillment_id=str(FULFILLMENT),
    order_id=str(ORDER),
    attempt=1,
    warehouse_id="W1",
    packages=[
        fulfillment_pb2.Package(
            package_number=n,
            weight_grams=p.weight_grams,
            length_mm=p.length_mm,
            width_mm=p.width_mm,
            height_mm=p.height_mm,
        )
        for n, p in enumerate(shipment_request().parcels, 1)
    ],
)


@pytest.mark.parametrize("status", [*fulfillment_pb2.FulfillmentStatus.values(), 99])
def test_only_ready_fulfilment_requests_shipment(status: int) -> None:
    """Ready has the packages to ship, in order; every other status, an unknown one included, has no
    command here.
    """
    event = FulfillmentStatusChanged(
        fulfillment=FULFILLED,
        new_status=status,  # type: ignore[arg-type]  # also an unknown one
    )
    ready = of_event(shipment_request(), FULFILLMENT, "fulfillment")
    assert events_in.ready_fulfillment(event, EVENT) == (ready if status == READY else None)


def test_withdrawn_fulfilment_becomes_its_envelope() -> None:
    """An event of other changed lines has no command here."""
    event = FulfillmentLinesChanged(fulfillment=FULFILLED)
    assert events_in.withdrawn_fulfillment(event, EVENT) is None
    event.fulfillment.withdraw_reason, event.fulfillment.version = "UNITS_CUT", 4
    envelope = of_event(shipment_request(fulfillment_version=4), FULFILLMENT, "fulfillment")
    assert events_in.withdrawn_fulfillment(event, EVENT) == envelope


def test_ready_fulfilment_without_packages_is_unreadable() -> None:
    """A fulfilment that is ready without a package breaks the contract."""
    event = FulfillmentStatusChanged(fulfillment=FULFILLED, new_status=READY)
    del event.fulfillment.packages[:]
    with pytest.raises(Invalid) as refused:
        events_in.ready_fulfillment(event, EVENT)
    assert [violation.subject for violation in refused.value.violations] == ["fulfillment.packages"]


@pytest.mark.parametrize("status", [*order_pb2.OrderStatus.values(), 99])
def test_only_cancelled_or_failed_order_is_closed(status: int) -> None:
    """Cancelled and failed close an order; every other status, an unknown one included, has no
    command here.
    """
    event = OrderStatusChanged(
        order_id=str(ORDER),
        attempt=2,
        order_version=7,
        new_status=status,  # type: ignore[arg-type]  # also one without a name
    )
    names = {order_pb2.ORDER_STATUS_CANCELLED: "cancelled", order_pb2.ORDER_STATUS_FAILED: "failed"}
    envelope = events_in.close_order(event, EVENT)
    if status not in names:
        assert envelope is None
        return
    name = names[order_pb2.OrderStatus.ValueType(status)]
    assert envelope == of_event(CloseOrder(attempt=2, status=name, version=7), ORDER, "order")


@pytest.mark.parametrize("status", [*fulfillment_pb2.FulfillmentStatus.values(), 99])
def test_only_cancelled_fulfilment_is_closed(status: int) -> None:
    """Cancelled closes it; every other status, an unknown one included, has no command here."""
    event = FulfillmentStatusChanged(
        fulfillment=FULFILLED,
        new_status=status,  # type: ignore[arg-type]  # also an unknown one
    )
    event.fulfillment.version = 4
    envelope = of_event(CloseFulfillment(version=4), FULFILLMENT, "fulfillment")
    assert events_in.close_fulfillment(event, EVENT) == (
        envelope if status == fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED else None
    )


def test_create_request_becomes_its_envelope() -> None:
    """The fulfilment is the target: an operation proposes the id of the shipment."""
    request = api.CreateShipmentRequest(
        request_id="r",
        order_id=str(ORDER),
        attempt=1,
        fulfillment_id=str(FULFILLMENT),
        warehouse_id="W1",
        parcels=responses.shipment(shipment()).parcels,
        fulfillment_version=7,
    )
    assert requests.create_shipment(request, REQUEST) == Envelope(
        key=REQUEST.key,
        request_hash=b"digest",
        target=FULFILLMENT,
        actor="shipping",
        cause="r",
        command=shipment_request(fulfillment_version=7),
        claimed_actor="staff:7f3a",
        note="wrong address",
    )


def test_cancel_request_becomes_its_envelope() -> None:
    """Staff cancel with the version that they state, if any."""
    request = api.CancelShipmentRequest(request_id="r", shipment_id=str(SHIPMENT))
    assert requests.cancel_shipment(request, REQUEST) == Envelope(
        key=REQUEST.key,
        request_hash=b"digest",
        target=SHIPMENT,
        actor="staff",
        cause="r",
        command=CancelShipment(expected_version=None),
        claimed_actor="staff:7f3a",
        note="wrong address",
    )
    request.expected_version = 3
    assert requests.cancel_shipment(request, REQUEST).command.expected_version == 3


def test_shipment_message_has_every_field() -> None:
    """The message has every field of a shipment; an absent one is unset, not zero or empty."""
    message = responses.shipment(shipment("delivered"))
    assert (
        message.SerializeToString()
        == shipping_pb2.Shipment(
            shipment_id=str(SHIPMENT),
            order_id=str(ORDER),
            attempt=1,
            fulfillment_id=str(FULFILLMENT),
            warehouse_id="W1",
            status=shipping_pb2.SHIPMENT_STATUS_DELIVERED,
            status_reason="FULFILLMENT_READY",
            carrier="sandbox",
            tracking_number="SBX0000000001",
            parcels=[
                shipping_pb2.Parcel(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100),
                shipping_pb2.Parcel(weight_grams=50, length_mm=10, width_mm=10, height_mm=10),
            ],
            version=3,
            create_time=timestamp(NOON),
            update_time=timestamp(NOON),
            deliver_time=timestamp(NOON),
        ).SerializeToString()
    )
    pending = responses.shipment(shipment("pending"))
    assert not any(
        pending.HasField(name) for name in ("tracking_number", "carrier_code", "deliver_time")
    )
    assert responses.shipment(shipment("failed", carrier_code="NO")).carrier_code == "NO"
    assert not any(
        message.HasField(name) for name in ("recall_time", "withdraw_version", "contradict_time")
    )
    contradicted = responses.shipment(
        shipment("voided", fulfillment_version=7, withdraw_version=8, contradict_time=NOON)
    )
    assert (
        contradicted.fulfillment_version,
        contradicted.withdraw_version,
        contradicted.contradict_time,
    ) == (7, 8, timestamp(NOON))
    assert responses.shipment(shipment("voided")).recall_time == timestamp(NOON)


@pytest.mark.parametrize("status", Status)
def test_statuses_have_the_contracts_names(status: Status) -> None:
    """Each status survives the conversion to the contract and back."""
    assert enums.STATUS_OF[enums.STATUS[status]] is status
    assert (
        shipping_pb2.ShipmentStatus.Name(enums.STATUS[status])
        == f"SHIPMENT_STATUS_{status.upper()}"
    )


def test_each_domain_event_has_its_message() -> None:
    """The event is of the shipment, and concerns its order.

    It has the shipment at that time, the time, the reason and the claimed actor, and no note.
    """
    record = shipment("delivered", update_time=datetime(2026, 3, 3, tzinfo=UTC))
    message, when = responses.shipment(record), timestamp(record.update_time)
    transition = Transition(
        shipment_id=SHIPMENT,
        version=3,
        old=Status.LOST,
        new=Status.DELIVERED,
        reason="CARRIER_REPORTED",
        actor="sandbox",
        cause="r1",
        time=record.update_time,
        claimed_actor="staff:7f3a",
        note="by hand",
    )
    records = {"aggregate": SHIPMENT, "order_id": ORDER}
    why = {
        "reason": "CARRIER_REPORTED",
        "actor": "sandbox",
        "claimed_actor": "staff:7f3a",
        "cause_id": "r1",
    }
    created = events.ShipmentCreated(shipment=message, occur_time=when, **why)
    assert events_out.outgoing_event(Created(record, transition)) == OutgoingEvent(
        **records, message=created
    )
    old, new = shipping_pb2.SHIPMENT_STATUS_LOST, shipping_pb2.SHIPMENT_STATUS_DELIVERED
    changed = events.ShipmentStatusChanged(
        shipment=message, old_status=old, new_status=new, occur_time=when, **why
    )
    assert events_out.outgoing_event(StatusChanged(record, transition)) == OutgoingEvent(
        **records, message=changed
    )
    confirmed = events.DeliveryConfirmed(
        shipment=message, deliver_time=timestamp(NOON), occur_time=when, **why
    )
    assert events_out.outgoing_event(Delivered(record, transition)) == OutgoingEvent(
        **records, message=confirmed
    )
    alone = events_out.outgoing_event(
        StatusChanged(record, replace(transition, claimed_actor=None))
    ).message
    assert not alone.HasField("claimed_actor")


def test_unset_filter_is_none_or_empty() -> None:
    """An unset field is None or empty, a set one has its value."""
    assert requests.shipment_filter(api.ListShipmentsRequest()) == ShipmentFilter()
    request = api.ListShipmentsRequest(
        order_id=str(ORDER),
        carrier="C",
        tracking_number="T",
        statuses=[shipping_pb2.SHIPMENT_STATUS_LOST, shipping_pb2.SHIPMENT_STATUS_FAILED],
    )
    assert requests.shipment_filter(request) == ShipmentFilter(
        order_id=ORDER, carrier="C", tracking_number="T", statuses=(Status.LOST, Status.FAILED)
    )


def test_recipient_has_only_the_fields_of_the_label() -> None:
    """The recipient has name, address and telephone, without the mail address."""
    message = order_pb2.Recipient(
        name="Ada",
        address_lines=["1", "2"],
        locality="Dover",
        administrative_area="Kent",
        postal_code="CT",
        country_code="GB",
        phone="1",
    )
    message.email = "ada@example.org"
    assert events_in.recipient(message) == Recipient(
        name="Ada",
        address_lines=("1", "2"),
        locality="Dover",
        administrative_area="Kent",
        postal_code="CT",
        country_code="GB",
        phone="1",
    )


def test_report_has_the_time_of_the_carrier() -> None:
    """The report has the carrier's time, to the microsecond, and its place."""
    time = NOON.replace(microsecond=123456)
    request = api.RecordTrackingEventRequest(
        carrier_event_id="r",
        status=shipping_pb2.SHIPMENT_STATUS_LOST,
        location="Dover",
        occur_time=timestamp(time),
    )
    assert requests.report(request) == Report(
        carrier_event_id="r", status=Status.LOST, occur_time=time, location="Dover"
    )
