"""Requests that staff send to the fulfilment service. No tests here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import uuid4

from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api

from chassis.rpc.client import ask

if TYPE_CHECKING:
    # only the stubs have these names
    from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import (
        FulfillmentServiceAsyncStub as AsyncStub,
    )

Fulfillments: TypeAlias = "AsyncStub"

R = TypeVar("R", bound=Message)


def asking(kind: type[R], fulfillment_id: str, **fields: Any) -> R:
    """Returns a request about this fulfilment, with a request_id of its own."""
    return kind(**({"request_id": str(uuid4()), "fulfillment_id": fulfillment_id} | fields))


def package(*items: tuple[int, int], weight_grams: int = 1200) -> fulfillment_pb2.Package:
    """Returns a parcel of (line, units)."""
    contents = [
        fulfillment_pb2.PackedItem(line_number=number, quantity=units) for number, units in items
    ]
    return fulfillment_pb2.Package(
        weight_grams=weight_grams, length_mm=300, width_mm=200, height_mm=100, items=contents
    )


async def pick(
    service: Fulfillments, fulfillment: fulfillment_pb2.Fulfillment
) -> fulfillment_pb2.Fulfillment:
    """Moves a fulfilment from planning to picked, by its picklist."""
    fulfillment_id = fulfillment.fulfillment_id
    await ask(service.StartPicking, asking(api.StartPickingRequest, fulfillment_id))
    scans = [
        api.Scan(sku=line.sku, quantity=line.quantity)
        for line in fulfillment.picklist
        if line.quantity
    ]
    await ask(service.ScanItem, asking(api.ScanItemRequest, fulfillment_id, scans=scans))
    return (
        await ask(service.CompletePicking, asking(api.CompletePickingRequest, fulfillment_id))
    ).fulfillment


async def pack(
    service: Fulfillments,
    picked: fulfillment_pb2.Fulfillment,
    packages: Sequence[fulfillment_pb2.Package] = (),
) -> fulfillment_pb2.Fulfillment:
    """Moves a fulfilment from picked to packed, in one parcel unless `packages` has others.

    A fulfilment that needs no inspection becomes ready.
    """
    fulfillment_id = picked.fulfillment_id
    await ask(service.StartPacking, asking(api.StartPackingRequest, fulfillment_id))
    parcels = packages or [
        package(*((line.line_number, line.quantity) for line in picked.picklist if line.quantity))
    ]
    return (
        await ask(
            service.PackFulfillment,
            asking(api.PackFulfillmentRequest, fulfillment_id, packages=parcels),
        )
    ).fulfillment
