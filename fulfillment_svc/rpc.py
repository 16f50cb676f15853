"""RPCs in: wire -> operation -> wire, and nothing else. Errors are the interceptors' work."""

from functools import partial
from typing import Any
from uuid import UUID

import grpc
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceServicer

from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from fulfillment_svc.operations.inspections import InspectionOperations
from fulfillment_svc.operations.reading import ReadOperations
from fulfillment_svc.operations.staff import StaffOperations
from fulfillment_svc.wire import requests, responses

Context = grpc.aio.ServicerContext[Any, Any]


class FulfillmentService(FulfillmentServiceServicer):
    """ordermesh.fulfillment.v1.FulfillmentService: what each method does and answers stands in
    the contract.
    """

    def __init__(
        self,
        staff: StaffOperations,
        inspections: InspectionOperations,
        reading: ReadOperations,
    ) -> None:
        self.staff, self.inspections, self.reading = staff, inspections, reading

    async def GetFulfillment(
        self, request: api.GetFulfillmentRequest, context: Context
    ) -> api.GetFulfillmentResponse:
        fulfillment = await self.reading.get_fulfillment(UUID(request.fulfillment_id))
        return api.GetFulfillmentResponse(fulfillment=responses.fulfillment(fulfillment))

    async def ListFulfillments(
        self, request: api.ListFulfillmentsRequest, context: Context
    ) -> api.ListFulfillmentsResponse:
        page = page_request(request, partial(responses.fulfillment, view=request.view))
        fulfillments, token = await self.reading.list_fulfillments(
            requests.fulfillment_filter(request), page
        )
        return api.ListFulfillmentsResponse(fulfillments=fulfillments, next_page_token=token)

    async def ListFulfillmentTransitions(
        self, request: api.ListFulfillmentTransitionsRequest, context: Context
    ) -> api.ListFulfillmentTransitionsResponse:
        page = page_request(request, responses.transition, int)
        id = UUID(request.fulfillment_id)
        transitions, token = await self.reading.list_transitions(id, page)
        return api.ListFulfillmentTransitionsResponse(
            transitions=transitions,
            next_page_token=token,
        )

    async def StartPicking(
        self, request: api.StartPickingRequest, context: Context
    ) -> api.StartPickingResponse:
        fulfillment = await self.staff.change(
            requests.start_picking(request, request_context(request))
        )
        return api.StartPickingResponse(fulfillment=responses.fulfillment(fulfillment))

    async def ScanItem(
        self, request: api.ScanItemRequest, context: Context
    ) -> api.ScanItemResponse:
        fulfillment = await self.staff.change(
            requests.scan_items(request, request_context(request))
        )
        return api.ScanItemResponse(fulfillment=responses.fulfillment(fulfillment))

    async def CompletePicking(
        self, request: api.CompletePickingRequest, context: Context
    ) -> api.CompletePickingResponse:
        fulfillment = await self.staff.change(
            requests.complete_picking(request, request_context(request))
        )
        return api.CompletePickingResponse(fulfillment=responses.fulfillment(fulfillment))

    async def StartPacking(
        self, request: api.StartPackingRequest, context: Context
    ) -> api.StartPackingResponse:
        fulfillment = await self.staff.change(
            requests.start_packing(request, request_context(request))
        )
        return api.StartPackingResponse(fulfillment=responses.fulfillment(fulfillment))

    async def PackFulfillment(
        self, request: api.PackFulfillmentRequest, context: Context
    ) -> api.PackFulfillmentResponse:
        fulfillment = await self.staff.change(requests.pack(request, request_context(request)))
        return api.PackFulfillmentResponse(fulfillment=responses.fulfillment(fulfillment))

    async def RecordInspection(
        self, request: api.RecordInspectionRequest, context: Context
    ) -> api.RecordInspectionResponse:
        fulfillment = await self.inspections.inspect(
            requests.record_inspection(request, request_context(request))
        )
        return api.RecordInspectionResponse(fulfillment=responses.fulfillment(fulfillment))

    async def CancelFulfillment(
        self, request: api.CancelFulfillmentRequest, context: Context
    ) -> api.CancelFulfillmentResponse:
        fulfillment = await self.staff.change(
            requests.cancel_fulfillment(request, request_context(request))
        )
        return api.CancelFulfillmentResponse(fulfillment=responses.fulfillment(fulfillment))
