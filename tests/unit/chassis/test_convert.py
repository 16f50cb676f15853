"""Times on the wire: a Timestamp can hold values that are no time, and any binary client can send
one.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.ops.v1 import ops_service_pb2 as ops
from ordermesh.order.v1 import order_service_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2, reservation_service_pb2

import fulfillment_svc.wire.requests as fulfillment_wire
import order_svc.wire.requests as order_requests
import order_svc.wire.returns as return_wire
import payment_svc.wire.requests as payment_wire
import shipping_svc.wire.requests as shipping_wire
import warehouse_svc.wire.requests as warehouse_wire
from chassis.consume.delivery import Delivery
from chassis.ops import wire as ops_wire
from chassis.ops.outbox import OutboxService
from chassis.rpc.retries import published_services
from chassis.values.convert import (
    optional_field,
    parse_resume_token,
    parse_time,
    resume_token,
    timestamp,
)
from chassis.values.errors import Invalid
from order_svc.wire.events_in import apply_shipment

Reader = Callable[[Any], object | Awaitable[object]]

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
NO_TIMES = {
    "beyond the year 9999": Timestamp(seconds=10**15),
    "beyond what datetime can add": Timestamp(seconds=2**63 - 1),
    "before the year 1": Timestamp(seconds=-62_135_596_801),
    "less than no nanoseconds": Timestamp(nanos=-1),
    "a second of nanoseconds": Timestamp(nanos=10**9),
}


def _republish(request: ops.RepublishEventsRequest) -> Awaitable[object]:
    return OutboxService(AsyncMock(), AsyncMock(), "ORDERS").RepublishEvents(request, AsyncMock())


# The function that reads each request with a time.
READERS: dict[type[Message], Reader] = {
    order_service_pb2.ListOrdersRequest: order_requests.order_filter,
    return_service_pb2.ListReturnsRequest: return_wire.return_filter,
    payment_service_pb2.ListPaymentsRequest: payment_wire.payment_filter,
    payment_service_pb2.ListRefundsRequest: payment_wire.refund_filter,
    inventory_service_pb2.ListStockMovementsRequest: warehouse_wire.movement_filter,
    inventory_service_pb2.ListStockLevelsRequest: warehouse_wire.level_filter,
    reservation_service_pb2.ListReservationsRequest: warehouse_wire.reservation_filter,
    fulfillment_service_pb2.ListFulfillmentsRequest: fulfillment_wire.fulfillment_filter,
    shipping_service_pb2.RecordTrackingEventRequest: shipping_wire.report,
    shipping_service_pb2.ListShipmentsRequest: shipping_wire.shipment_filter,
    ops.ListFailedEventsRequest: lambda request: ops_wire.wanted(request.filter),
    ops.BatchReplayFailedEventsRequest: lambda request: ops_wire.wanted(request.filter),
    ops.BatchDiscardFailedEventsRequest: lambda request: ops_wire.wanted(request.filter),
    ops.RepublishEventsRequest: _republish,
}


def _times(kind: Any, path: str = "") -> Iterator[str]:
    """Returns the paths of the time fields of the message with this descriptor."""
    for field in kind.fields:
        if field.message_type is Timestamp.DESCRIPTOR:
            yield path + field.name
        elif field.message_type and field.message_type.full_name.startswith("ordermesh."):
            yield from _times(field.message_type, f"{path}{field.name}.")


async def _read(request: Message) -> None:
    """Reads the request as its method does."""
    if isawaitable(read := READERS[type(request)](request)):
        await read


FIELDS = [(kind, path) for kind in READERS for path in _times(kind.DESCRIPTOR)]


def test_every_request_with_a_time_has_a_reader() -> None:
    """The table of readers has each method that takes a time."""
    kinds = {method.input_type for service in published_services() for method in service.methods}
    assert {kind.full_name for kind in kinds if any(_times(kind))} == {
        kind.DESCRIPTOR.full_name for kind in READERS
    }


@pytest.mark.parametrize("no_time", NO_TIMES.values(), ids=list(NO_TIMES))
@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=[f"{kind.__name__}.{path}" for kind, path in FIELDS]
)
async def test_time_out_of_range_fails_validation(
    kind: type[Message], path: str, no_time: Timestamp
) -> None:
    """A time out of range is VALIDATION_FAILED like any other invalid field, with the field's path
    and the bound. It is no defect of the service.
    """
    request: Any = kind()
    if kind is shipping_service_pb2.RecordTrackingEventRequest:
        request.status = shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT
    *above, field = path.split(".")
    message = request
    for step in above:
        message = getattr(message, step)
    getattr(message, field).CopyFrom(no_time)
    with pytest.raises(Invalid) as refused:
        await _read(request)
    assert refused.value.reason == "VALIDATION_FAILED"
    assert [(v.subject, v.description) for v in refused.value.violations] == [
        (path, "must be a time between the years 1 and 9999")
    ]


def test_event_time_out_of_range_is_refused() -> None:
    """A peer's delivery time is read in the same way: the event is refused with its field, and is
    no defect.
    """
    shipment = shipping_pb2.Shipment(order_id=str(UUID(int=1)), shipment_id=str(UUID(int=2)))
    event = shipping_events_pb2.DeliveryConfirmed(
        shipment=shipment, deliver_time=Timestamp(seconds=10**15)
    )
    delivery = Delivery(
        event_id=UUID(int=3), key="key", request_hash=b"digest", message=event, time=LAST
    )
    with pytest.raises(Invalid) as refused:
        apply_shipment(event, delivery)
    assert [v.subject for v in refused.value.violations] == ["deliver_time"]


@pytest.mark.parametrize("time", [FIRST, LAST])
def test_first_and_last_time_are_valid(time: datetime) -> None:
    """The bounds are valid, and remain unchanged in UTC. An unset time stays unset."""
    request = order_service_pb2.ListOrdersRequest(create_time_from=timestamp(time))
    assert parse_time(timestamp(time), "any") == optional_field(request, "create_time_from") == time
    assert optional_field(request, "create_time_before") is None


def test_time_bound_is_rounded_up() -> None:
    """A time with nanoseconds is rounded up to the next microsecond, and never beyond the year
    9999.
    """
    for nanos, microsecond in ((1_000, 1), (1_001, 2), (1_999, 2), (2_000, 2)):
        request = order_service_pb2.ListOrdersRequest(
            create_time_from=Timestamp(nanos=nanos), create_time_before=Timestamp(nanos=nanos)
        )
        assert (
            optional_field(request, "create_time_from").microsecond
            == optional_field(request, "create_time_before").microsecond
            == microsecond
        )
    last = timestamp(LAST)
    request = order_service_pb2.ListOrdersRequest(
        create_time_before=Timestamp(seconds=last.seconds, nanos=999_999_999)
    )
    with pytest.raises(Invalid) as refused:
        optional_field(request, "create_time_before")
    assert [violation.subject for violation in refused.value.violations] == ["create_time_before"]


def test_resume_token_of_another_record_is_refused() -> None:
    """A token has the version after which the watch continues; without one it starts anew. The
    token of another record, and one that no watch issued, is refused by its field's name.
    """
    watched, other = UUID(int=1), UUID(int=2)
    token = resume_token(watched, 4)
    assert (parse_resume_token(token, watched), parse_resume_token("", watched)) == (4, None)
    for foreign in (resume_token(other, 4), resume_token(watched, -1), "x", "é", token[:-6]):
        with pytest.raises(Invalid) as refused:
            parse_resume_token(foreign, watched)
        assert [violation.subject for violation in refused.value.violations] == ["resume_token"]
