"""RPCs in: wire -> operation -> wire. The interceptors handle errors."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import grpc
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceServicer

from chassis.values.convert import parse_resume_token
from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from shipping_svc.operations.creation import CreationOperations
from shipping_svc.operations.reading import ReadOperations
from shipping_svc.operations.recalls import RecallOperations
from shipping_svc.operations.reports import ReportOperations
from shipping_svc.wire import requests, responses

CallContext = grpc.aio.ServicerContext[Any, Any]


class ShippingService(ShippingServiceServicer):
    """Serves ordermesh.shipping.v1.ShippingService; the contract describes its methods."""

    def __init__(
        self,
        creation: CreationOperations,
        recalls: RecallOperations,
        reports: ReportOperations,
        reading: ReadOperations,
    ) -> None:
        self.creation, self.recalls, self.reports = creation, recalls, reports
        self.reading = reading

    async def CreateShipment(
        self, request: api.CreateShipmentRequest, context: CallContext
    ) -> api.CreateShipmentResponse:
        envelope = requests.create_shipment(request, request_context(request))
        shipment = await self.creation.create_shipment(envelope)
        return api.CreateShipmentResponse(shipment=responses.shipment(shipment))

    async def GetShipment(
        self, request: api.GetShipmentRequest, context: CallContext
    ) -> api.GetShipmentResponse:
        shipment = await self.reading.get_shipment(UUID(request.shipment_id))
        return api.GetShipmentResponse(shipment=responses.shipment(shipment))

    async def ListShipments(
        self, request: api.ListShipmentsRequest, context: CallContext
    ) -> api.ListShipmentsResponse:
        page = page_request(request, responses.shipment)
        shipments, token = await self.reading.list_shipments(
            requests.shipment_filter(request), page
        )
        return api.ListShipmentsResponse(shipments=shipments, next_page_token=token)

    async def CancelShipment(
        self, request: api.CancelShipmentRequest, context: CallContext
    ) -> api.CancelShipmentResponse:
        envelope = requests.cancel_shipment(request, request_context(request))
        shipment = await self.recalls.cancel_shipment(envelope)
        return api.CancelShipmentResponse(shipment=responses.shipment(shipment))

    async def GetLabel(
        self, request: api.GetLabelRequest, context: CallContext
    ) -> api.GetLabelResponse:
        return responses.label(await self.reading.get_label(UUID(request.shipment_id)))

    async def ListTrackingEvents(
        self, request: api.ListTrackingEventsRequest, context: CallContext
    ) -> api.ListTrackingEventsResponse:
        page = page_request(request, lambda row: responses.tracking_event(*row), int)
        events, token = await self.reading.list_tracking_events(UUID(request.shipment_id), page)
        return api.ListTrackingEventsResponse(tracking_events=events, next_page_token=token)

    async def ListShipmentTransitions(
        self, request: api.ListShipmentTransitionsRequest, context: CallContext
    ) -> api.ListShipmentTransitionsResponse:
        page = page_request(request, responses.transition, int)
        transitions, token = await self.reading.list_transitions(UUID(request.shipment_id), page)
        return api.ListShipmentTransitionsResponse(transitions=transitions, next_page_token=token)

    async def RecordTrackingEvent(
        self, request: api.RecordTrackingEventRequest, context: CallContext
    ) -> api.RecordTrackingEventResponse:
        shipment = await self.reports.record_report(
            request_context(request),
            request.carrier,
            request.tracking_number,
            requests.report(request),
        )
        return api.RecordTrackingEventResponse(shipment=responses.shipment(shipment))

    async def WatchShipment(
        self, request: api.WatchShipmentRequest, context: CallContext
    ) -> AsyncIterator[api.WatchShipmentResponse]:
        shipment_id = UUID(request.shipment_id)
        after = parse_resume_token(request.resume_token, shipment_id) or 0
        async with aclosing(self.reading.watch_shipment(shipment_id, after)) as updates:
            async for update, version in updates:
                yield responses.watch_response(shipment_id, update, version)
