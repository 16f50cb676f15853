"""Requests of callers, as commands in envelopes and as filters."""

from collections import Counter
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api

from chassis.values.convert import optional_field
from chassis.values.envelope import Envelope
from chassis.values.request_context import RequestContext
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    CompletePicking,
    Pack,
    RecordInspection,
    Request,
    Scan,
    ScanItems,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.filters import FulfillmentFilter
from fulfillment_svc.model.records import Package, PackedItem
from fulfillment_svc.wire.enums import STATUS_OF

R = TypeVar("R", bound=Request)
ChangeRequest = (
    api.StartPickingRequest
    | api.ScanItemRequest
    | api.CompletePickingRequest
    | api.StartPackingRequest
    | api.PackFulfillmentRequest
    | api.RecordInspectionRequest
    | api.CancelFulfillmentRequest
)


def start_picking(
    request: api.StartPickingRequest, context: RequestContext
) -> Envelope[StartPicking]:
    return _request_envelope(request, context, "picker", StartPicking())


def scan_items(request: api.ScanItemRequest, context: RequestContext) -> Envelope[ScanItems]:
    scans = tuple(Scan(scan.sku, scan.quantity) for scan in request.scans)
    return _request_envelope(request, context, "picker", ScanItems(scans=scans))


def complete_picking(
    request: api.CompletePickingRequest, context: RequestContext
) -> Envelope[CompletePicking]:
    command = CompletePicking(short_line_numbers=frozenset(request.short_line_numbers))
    return _request_envelope(request, context, "picker", command)


def start_packing(
    request: api.StartPackingRequest, context: RequestContext
) -> Envelope[StartPacking]:
    return _request_envelope(request, context, "packer", StartPacking())


def pack(request: api.PackFulfillmentRequest, context: RequestContext) -> Envelope[Pack]:
    command = Pack(packages=tuple(map(_package_from_request, request.packages)))
    return _request_envelope(request, context, "packer", command)


def record_inspection(
    request: api.RecordInspectionRequest,
    context: RequestContext,
) -> Envelope[RecordInspection]:
    spoiled = {line.line_number: line.quantity for line in request.spoiled}
    command = RecordInspection(passed=request.passed, spoiled=spoiled)
    return _request_envelope(request, context, "inspector", command)


def cancel_fulfillment(
    request: api.CancelFulfillmentRequest, context: RequestContext
) -> Envelope[CancelFulfillment]:
    return _request_envelope(request, context, "staff", CancelFulfillment())


def _request_envelope(
    request: ChangeRequest, context: RequestContext, actor: str, command: R
) -> Envelope[R]:
    """Returns the envelope of a person's command, which expects the version that the request names.

    Its cause is the key, because two methods may be called with the same request_id.
    """
    command = replace(command, expected_version=optional_field(request, "expected_version"))
    target = UUID(request.fulfillment_id)
    return Envelope.of_request(context, command, target=target, actor=actor, cause=context.key)


def fulfillment_filter(request: api.ListFulfillmentsRequest) -> FulfillmentFilter:
    return FulfillmentFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=optional_field(request, "warehouse_id"),
        statuses=frozenset(STATUS_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def _package_from_request(package: fulfillment_pb2.Package) -> Package:
    """Returns the parcel of a packer's request: each line once."""
    items: Counter[int] = Counter()
    for item in package.items:
        items[item.line_number] += item.quantity
    return Package(
        weight_grams=package.weight_grams,
        length_mm=package.length_mm,
        width_mm=package.width_mm,
        height_mm=package.height_mm,
        items=tuple(PackedItem(number, quantity) for number, quantity in sorted(items.items())),
    )
