"""Records, as messages of responses."""

from itertools import count

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import timestamp
from fulfillment_svc.model.records import Fulfillment, Line, Package, Transition
from fulfillment_svc.wire.enums import NO_RULE, NO_STATUS, RULE, STATUS


def fulfillment(
    record: Fulfillment, view: View.ValueType = VIEW_FULL
) -> fulfillment_pb2.Fulfillment:
    return fulfillment_pb2.Fulfillment(
        fulfillment_id=str(record.id),
        order_id=str(record.key.order_id),
        order_number=record.order_number,
        attempt=record.key.attempt,
        warehouse_id=record.key.warehouse_id,
        status=STATUS[record.status],
        stock_committed=record.stock_committed,
        picklist=map(_line, record.lines) if view != VIEW_SUMMARY else None,
        packages=map(_package, count(1), record.packages) if view != VIEW_SUMMARY else None,
        inspection_required=record.inspection_rule is not None,
        inspection_rule=RULE[record.inspection_rule] if record.inspection_rule else NO_RULE,
        shipment_id=str(record.shipment_id) if record.shipment_id else None,
        version=record.version,
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        withdraw_reason=record.withdraw_reason,
    )


def transition(row: Transition) -> fulfillment_pb2.FulfillmentTransition:
    return fulfillment_pb2.FulfillmentTransition(
        fulfillment_id=str(row.fulfillment_id),
        fulfillment_version=row.version,
        old_status=STATUS[row.old] if row.old else NO_STATUS,
        new_status=STATUS[row.new],
        reason=row.reason,
        actor=row.actor,
        claimed_actor=row.claimed_actor,
        cause_id=row.cause,
        note=row.note,
        occur_time=timestamp(row.time),
    )


def _line(line: Line) -> fulfillment_pb2.PicklistLine:
    return fulfillment_pb2.PicklistLine(
        line_number=line.line_number,
        sku=line.sku,
        quantity=line.quantity,
        picked_quantity=line.picked,
        cut_quantity=line.cut,
        short_quantity=line.short,
        spoiled_quantity=line.spoiled,
    )


def _package(number: int, package: Package) -> fulfillment_pb2.Package:
    return fulfillment_pb2.Package(
        package_number=number,
        weight_grams=package.weight_grams,
        length_mm=package.length_mm,
        width_mm=package.width_mm,
        height_mm=package.height_mm,
        items=[
            fulfillment_pb2.PackedItem(line_number=item.line_number, quantity=item.quantity)
            for item in package.items
        ],
    )
