"""RPCs in: wire -> operation -> wire. The interceptors handle errors."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import grpc
from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceServicer

from chassis.values.envelope import Envelope
from chassis.values.paging import page_request
from chassis.values.request_context import RequestContext, request_context
from fulfillment_svc.operations.inspections import InspectionOperations
from fulfillment_svc.operations.reading import ReadOperations
from fulfillment_svc.operations.staff import StaffOperations
from fulfillment_svc.wire import requests, responses

R = TypeVar("R", bound=Message)
CallContext = grpc.aio.ServicerContext[Any, Any]


class FulfillmentService(FulfillmentServiceServicer):
    """Serves ordermesh.fulfillment.v1.FulfillmentService; the contract describes its methods."""

    def __init__(
        self,
        staff: StaffOperations,
        inspections: InspectionOperations,
        reading: ReadOperations,
    ) -> None:
        self.staff, self.inspections, self.reading = staff, inspections, reading

    async def GetFulfillment(
        self, request: api.GetFulfillmentRequest, context: CallContext
    ) -> api.GetFulfillmentResponse:
        fulfillment = await self.reading.get_fulfillment(UUID(request.fulfillment_id))
        return api.GetFulfillmentResponse(fulfillment=responses.fulfillment(fulfillment))

    async def ListFulfillments(
        self, request: api.ListFulfillmentsRequest, context: CallContext
    ) -> api.ListFulfillmentsResponse:
        page = page_request(request, partial(responses.fulfillment, view=request.view))
        fulfillments, token = await self.reading.list_fulfillments(
            requests.fulfillment_filter(request), page
        )
        return api.ListFulfillmentsResponse(fulfillments=fulfillments, next_page_token=token)

    async def ListFulfillmentTransitions(
        self, request: api.ListFulfillmentTransitionsRequest, context: CallContext
    ) -> api.ListFulfillmentTransitionsResponse:
        page = page_request(request, responses.transition, int)
        id = UUID(request.fulfillment_id)
        transitions, token = await self.reading.list_transitions(id, page)
        return api.ListFulfillmentTransitionsResponse(
            transitions=transitions,
            next_page_token=token,
        )

    async def StartPicking(
        self, request: api.StartPickingRequest, context: CallContext
    ) -> api.StartPickingResponse:
        return api.StartPickingResponse(
            fulfillment=await self._change(request, requests.start_picking)
        )

    async def ScanItem(
        self, request: api.ScanItemRequest, context: CallContext
    ) -> api.ScanItemResponse:
        return api.ScanItemResponse(fulfillment=await self._change(request, requests.scan_items))

    async def CompletePicking(
        self, request: api.CompletePickingRequest, context: CallContext
    ) -> api.CompletePickingResponse:
        return api.CompletePickingResponse(
            fulfillment=await self._change(request, requests.complete_picking)
        )

    async def StartPacking(
        self, request: api.StartPackingRequest, context: CallContext
    ) -> api.StartPackingResponse:
        return api.StartPackingResponse(
            fulfillment=await self._change(request, requests.start_packing)
        )

    async def PackFulfillment(
        self, request: api.PackFulfillmentRequest, context: CallContext
    ) -> api.PackFulfillmentResponse:
        return api.PackFulfillmentResponse(fulfillment=await self._change(request, requests.pack))

    async def RecordInspection(
        self, request: api.RecordInspectionRequest, context: CallContext
    ) -> api.RecordInspectionResponse:
        fulfillment = await self.inspections.inspect(
            requests.record_inspection(request, request_context(request))
        )
        return api.RecordInspectionResponse(fulfillment=responses.fulfillment(fulfillment))

    async def CancelFulfillment(
        self, request: api.CancelFulfillmentRequest, context: CallContext
    ) -> api.CancelFulfillmentResponse:
        return api.CancelFulfillmentResponse(
            fulfillment=await self._change(request, requests.cancel_fulfillment)
        )

    async def _change(
        self, request: R, decode: Callable[[R, RequestContext], Envelope[Any]]
    ) -> fulfillment_pb2.Fulfillment:
        """Returns the fulfilment after a request of the staff."""
        envelope = decode(request, request_context(request))
        return responses.fulfillment(await self.staff.change(envelope))
