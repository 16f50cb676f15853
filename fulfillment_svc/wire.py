"""Protobuf to model and back, and facts to events. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import given, money, names, timestamp
from chassis.values.envelope import Envelope, EventSource
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import Keyed
from fulfillment_svc.lifecycle import InspectionRule, Status
from fulfillment_svc.model import (
    Complete,
    CompletePicking,
    Filter,
    Fulfillment,
    GiveUp,
    Line,
    LinesChanged,
    News,
    OfShipment,
    OrderNews,
    Pack,
    Package,
    PackedItem,
    RecordInspection,
    Release,
    Scan,
    ScanItems,
    Shares,
    Ship,
    StartPacking,
    StartPicking,
    StatusChanged,
    Transition,
    VoidLabel,
)

C = TypeVar("C")

STATUS = names(Status, "FULFILLMENT_STATUS", fulfillment_pb2.FulfillmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
RULE = names(InspectionRule, "INSPECTION_RULE", fulfillment_pb2.InspectionRule.Value)
NO_STATUS = fulfillment_pb2.FULFILLMENT_STATUS_UNSPECIFIED
NO_RULE = fulfillment_pb2.INSPECTION_RULE_UNSPECIFIED
# A parcel that stands there is in the warehouse, as far as shipping knows.
HERE = frozenset(
    {
        shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED,
        shipping_pb2.SHIPMENT_STATUS_PENDING,
        shipping_pb2.SHIPMENT_STATUS_CREATED,
    }
)


class ChangeRequest(Protocol):
    """What every request has that changes a fulfilment."""

    fulfillment_id: str


# --- requests


def start_picking(request: api.StartPickingRequest, of: Keyed) -> Envelope[StartPicking]:
    command = StartPicking(expected_version=given(request, "expected_version"))
    return _requested(request, of, "picker", command)


def scan_items(request: api.ScanItemRequest, of: Keyed) -> Envelope[ScanItems]:
    command = ScanItems(
        expected_version=given(request, "expected_version"),
        scans=tuple(Scan(scan.sku, scan.quantity) for scan in request.scans),
    )
    return _requested(request, of, "picker", command)


def complete_picking(request: api.CompletePickingRequest, of: Keyed) -> Envelope[CompletePicking]:
    command = CompletePicking(
        expected_version=given(request, "expected_version"),
        short_line_numbers=frozenset(request.short_line_numbers),
    )
    return _requested(request, of, "picker", command)


def start_packing(request: api.StartPackingRequest, of: Keyed) -> Envelope[StartPacking]:
    command = StartPacking(expected_version=given(request, "expected_version"))
    return _requested(request, of, "packer", command)


def pack(request: api.PackFulfillmentRequest, of: Keyed) -> Envelope[Pack]:
    command = Pack(
        expected_version=given(request, "expected_version"),
        packages=tuple(map(_packed, request.packages)),
    )
    return _requested(request, of, "packer", command)


def record_inspection(
    request: api.RecordInspectionRequest,
    of: Keyed,
) -> Envelope[RecordInspection]:
    command = RecordInspection(
        expected_version=given(request, "expected_version"),
        passed=request.passed,
        spoiled={line.line_number: line.quantity for line in request.spoiled},
    )
    return _requested(request, of, "inspector", command)


def give_up(request: api.CancelFulfillmentRequest, of: Keyed) -> Envelope[GiveUp]:
    command = GiveUp(expected_version=given(request, "expected_version"))
    return _requested(request, of, "staff", command)


def _requested(request: ChangeRequest, of: Keyed, actor: str, command: C) -> Envelope[C]:
    """The envelope of a person's command.

    Its cause is the key, because two methods may be called with the same request_id.
    """
    target = UUID(request.fulfillment_id)
    return Envelope.of_request(of, command, target=target, actor=actor, cause=of.key)


def wanted(request: api.ListFulfillmentsRequest) -> Filter:
    return Filter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=given(request, "warehouse_id"),
        statuses=frozenset(STATUS_OF[status] for status in request.statuses),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


def _packed(package: fulfillment_pb2.Package) -> Package:
    """A parcel as the packer tells of it: without a number, each line once."""
    items: Counter[int] = Counter()
    for item in package.items:
        items[item.line_number] += item.quantity
    return Package(
        number=0,
        weight_grams=package.weight_grams,
        length_mm=package.length_mm,
        width_mm=package.width_mm,
        height_mm=package.height_mm,
        items=tuple(PackedItem(number, quantity) for number, quantity in sorted(items.items())),
    )


# --- events of others


def order_news(
    event: order_events_pb2.OrderStatusChanged,
    of: EventSource,
) -> Envelope[OrderNews]:
    """CONFIRMED starts the work, and CANCELLED after that ends it; other changes mean nothing."""
    news = News.OTHER
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        news = News.CONFIRMED
    elif (
        event.new_status == order_pb2.ORDER_STATUS_CANCELLED
        and event.old_status != order_pb2.ORDER_STATUS_PENDING
    ):
        news = News.ENDED
    committed = event.stock_status == order_pb2.STOCK_STATUS_COMMITTED
    return _news(event, news, of, committed)


def items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    of: EventSource,
) -> Envelope[OrderNews]:
    """There is less work. It means nothing before the order is confirmed, with what stays then."""
    pending = event.status == order_pb2.ORDER_STATUS_PENDING
    return _news(event, News.OTHER if pending else News.CUT, of, committed=False)


def _news(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    news: News,
    of: EventSource,
    committed: bool,
) -> Envelope[OrderNews]:
    command = OrderNews(
        news=news,
        order_id=UUID(event.order_id),
        order_number=event.order_number,
        attempt=event.attempt,
        version=event.order_version,
        total=money(event.total_amount, "total_amount"),
        stock_committed=committed,
        shares={} if news is News.OTHER else _shares(event.items),
    )
    return Envelope.of_event(of, command, target=command.order_id, actor="order")


def ship(shipment: shipping_pb2.Shipment, of: EventSource, *, left: bool = False) -> Envelope[Ship]:
    command = Ship(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
        left=left,
    )
    return _of_shipment(shipment, of, command)


def complete(shipment: shipping_pb2.Shipment, of: EventSource) -> Envelope[Complete]:
    command = Complete(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
    )
    return _of_shipment(shipment, of, command)


def withdrawal_answer(
    shipment: shipping_pb2.Shipment,
    of: EventSource,
) -> Envelope[OfShipment] | None:
    """Shipping's answer to a withdrawal: nothing leaves, or the carrier has the parcels.

    None: there is no answer yet, or no withdrawal.
    """
    if not shipment.HasField("withdraw_version"):
        return None
    void = shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED
    if void or shipment.status == shipping_pb2.SHIPMENT_STATUS_FAILED:
        release = Release(
            shipment_id=UUID(shipment.shipment_id),
            fulfillment_version=shipment.fulfillment_version,
            label_void=void,
            left=shipment.HasField("contradict_time"),
        )
        return _of_shipment(shipment, of, release)
    if shipment.status in HERE and shipment.status_reason != "WITHDRAWAL_TOO_LATE":
        return None
    return ship(shipment, of, left=True)


def _of_shipment(shipment: shipping_pb2.Shipment, of: EventSource, command: C) -> Envelope[C]:
    """The envelope of a command from an event of the shipment."""
    target = UUID(shipment.fulfillment_id)
    return Envelope.of_event(of, command, target=target, actor="shipping")


def _shares(items: Iterable[order_events_pb2.OrderLine]) -> Shares:
    """The order's lines, by the warehouses that serve them."""
    shares: defaultdict[str, list[Line]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.line_number):
        of_line: Counter[str] = Counter()
        for allocation in item.allocations:
            of_line[allocation.warehouse_id] += allocation.quantity
        for warehouse_id, quantity in of_line.items():
            if quantity:
                shares[warehouse_id].append(Line(item.line_number, item.sku, quantity))
    return {warehouse_id: tuple(lines) for warehouse_id, lines in shares.items()}


# --- answers and events of ours


def fulfillment(its: Fulfillment, view: View.ValueType = VIEW_FULL) -> fulfillment_pb2.Fulfillment:
    return fulfillment_pb2.Fulfillment(
        fulfillment_id=str(its.id),
        order_id=str(its.work.order_id),
        order_number=its.order_number,
        attempt=its.work.attempt,
        warehouse_id=its.work.warehouse_id,
        status=STATUS[its.status],
        stock_committed=its.stock_committed,
        picklist=map(_line, its.lines) if view != VIEW_SUMMARY else None,
        packages=map(_package, its.packages) if view != VIEW_SUMMARY else None,
        inspection_required=its.inspection_rule is not None,
        inspection_rule=RULE[its.inspection_rule] if its.inspection_rule else NO_RULE,
        shipment_id=str(its.shipment_id) if its.shipment_id else None,
        version=its.version,
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
        withdraw_reason=its.withdraw_reason,
    )


def transition(step: Transition) -> fulfillment_pb2.FulfillmentTransition:
    return fulfillment_pb2.FulfillmentTransition(
        fulfillment_id=str(step.fulfillment_id),
        fulfillment_version=step.version,
        old_status=STATUS[step.old] if step.old else NO_STATUS,
        new_status=STATUS[step.new],
        reason=step.reason,
        actor=step.actor,
        claimed_actor=step.claimed_actor,
        cause_id=step.cause,
        note=step.note or None,
        occur_time=timestamp(step.time),
    )


def event(fact: StatusChanged | LinesChanged) -> OutgoingEvent:
    """The event that tells of a change, with the fulfilment as it stood after it."""
    its = fact.fulfillment
    return OutgoingEvent(aggregate=its.id, order_id=its.work.order_id, message=_message(fact))


def _message(fact: StatusChanged | LinesChanged) -> Message:
    its = fact.fulfillment
    if isinstance(fact, LinesChanged):
        return fulfillment_events_pb2.FulfillmentLinesChanged(
            fulfillment=fulfillment(its),
            reason=fact.reason,
            occur_time=timestamp(its.update_time),
            attempt_unworked=fact.unworked,
            left_after_void=_left(fact.left) if fact.left else None,
            actor=fact.actor,
            claimed_actor=fact.claimed_actor,
            cause_id=fact.cause,
        )
    return fulfillment_events_pb2.FulfillmentStatusChanged(
        fulfillment=fulfillment(its),
        old_status=STATUS[fact.old] if fact.old else NO_STATUS,
        new_status=STATUS[its.status],
        reason=fact.reason,
        occur_time=timestamp(its.update_time),
        attempt_unworked=fact.unworked,
        actor=fact.actor,
        claimed_actor=fact.claimed_actor,
        cause_id=fact.cause,
    )


def _left(its: VoidLabel) -> fulfillment_events_pb2.LeftAfterVoid:
    items = [
        fulfillment_pb2.PackedItem(line_number=number, quantity=quantity)
        for number, quantity in its.units.items()
    ]
    return fulfillment_events_pb2.LeftAfterVoid(shipment_id=str(its.shipment_id), items=items)


def _line(its: Line) -> fulfillment_pb2.PicklistLine:
    return fulfillment_pb2.PicklistLine(
        line_number=its.line_number,
        sku=its.sku,
        quantity=its.quantity,
        picked_quantity=its.picked,
        cut_quantity=its.cut,
        short_quantity=its.short,
        spoiled_quantity=its.spoiled,
    )


def _package(its: Package) -> fulfillment_pb2.Package:
    return fulfillment_pb2.Package(
        package_number=its.number,
        weight_grams=its.weight_grams,
        length_mm=its.length_mm,
        width_mm=its.width_mm,
        height_mm=its.height_mm,
        items=[
            fulfillment_pb2.PackedItem(line_number=item.line_number, quantity=item.quantity)
            for item in its.items
        ],
    )
