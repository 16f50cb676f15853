"""RPCs in: wire -> operation -> wire, and nothing else. Errors are the interceptors' work."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import grpc
from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1 import return_service_pb2 as returns
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceServicer
from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceServicer

from chassis.values.convert import parse_resume_token
from chassis.values.paging import batch, page_request
from chassis.values.request_context import request_context
from order_svc.operations.cancellation import CancellationOperations
from order_svc.operations.creation import CreationOperations
from order_svc.operations.reading import ReadOperations
from order_svc.operations.returns import ReturnOperations
from order_svc.wire import requests, responses
from order_svc.wire import returns as returns_wire

CallContext = grpc.aio.ServicerContext[Any, Any]


class OrderService(OrderServiceServicer):
    """ordermesh.order.v1.OrderService: what each method does and answers stands in the contract."""

    def __init__(
        self,
        creation: CreationOperations,
        cancellation: CancellationOperations,
        reading: ReadOperations,
    ) -> None:
        self.creation, self.cancellation, self.reading = creation, cancellation, reading

    async def CreateOrder(
        self, request: api.CreateOrderRequest, context: CallContext
    ) -> api.CreateOrderResponse:
        order = await self.creation.create_order(
            requests.place_order(request, request_context(request))
        )
        return api.CreateOrderResponse(order=responses.order(order))

    async def GetOrder(
        self, request: api.GetOrderRequest, context: CallContext
    ) -> api.GetOrderResponse:
        [order] = await self.reading.get_orders([UUID(request.order_id)])
        return api.GetOrderResponse(order=responses.order(order, request.view))

    async def BatchGetOrders(
        self, request: api.BatchGetOrdersRequest, context: CallContext
    ) -> api.BatchGetOrdersResponse:
        ids = [UUID(id) for id in request.order_ids]
        page = batch(ids, partial(responses.order, view=request.view))
        orders = await self.reading.batch_get_orders(ids, page, allow_missing=request.allow_missing)
        return api.BatchGetOrdersResponse(orders=orders)

    async def ListOrders(
        self, request: api.ListOrdersRequest, context: CallContext
    ) -> api.ListOrdersResponse:
        page = page_request(request, partial(responses.order, view=request.view))
        orders, token = await self.reading.list_orders(requests.order_filter(request), page)
        return api.ListOrdersResponse(orders=orders, next_page_token=token)

    async def CancelOrder(
        self, request: api.CancelOrderRequest, context: CallContext
    ) -> api.CancelOrderResponse:
        order = await self.cancellation.cancel(
            requests.cancel_order(request, request_context(request))
        )
        return api.CancelOrderResponse(order=responses.order(order))

    async def CancelOrderItems(
        self, request: api.CancelOrderItemsRequest, context: CallContext
    ) -> api.CancelOrderItemsResponse:
        order = await self.cancellation.cancel(
            requests.cancel_items(request, request_context(request))
        )
        return api.CancelOrderItemsResponse(order=responses.order(order))

    async def RetryOrder(
        self, request: api.RetryOrderRequest, context: CallContext
    ) -> api.RetryOrderResponse:
        order = await self.creation.retry_order(
            requests.retry_order(request, request_context(request))
        )
        return api.RetryOrderResponse(order=responses.order(order))

    async def WatchOrder(
        self, request: api.WatchOrderRequest, context: CallContext
    ) -> AsyncIterator[api.WatchOrderResponse]:
        order_id = UUID(request.order_id)
        async with aclosing(
            self.reading.watch_order(order_id, parse_resume_token(request.resume_token, order_id))
        ) as updates:
            async for update, version in updates:
                yield responses.watch_response(order_id, update, version)

    async def ListOrderTransitions(
        self, request: api.ListOrderTransitionsRequest, context: CallContext
    ) -> api.ListOrderTransitionsResponse:
        page = page_request(request, responses.transition, int)
        transitions, token = await self.reading.list_transitions(UUID(request.order_id), page)
        return api.ListOrderTransitionsResponse(transitions=transitions, next_page_token=token)

    async def GetOrderRecipient(
        self, request: api.GetOrderRecipientRequest, context: CallContext
    ) -> api.GetOrderRecipientResponse:
        recipient = await self.reading.get_recipient(UUID(request.order_id))
        return api.GetOrderRecipientResponse(recipient=responses.recipient(recipient))


class ReturnService(ReturnServiceServicer):
    """ordermesh.order.v1.ReturnService: what each method does and answers stands in the
    contract.
    """

    def __init__(self, operations: ReturnOperations) -> None:
        self.operations = operations

    async def CreateReturn(
        self, request: returns.CreateReturnRequest, context: CallContext
    ) -> returns.CreateReturnResponse:
        order_return = await self.operations.create(
            returns_wire.create_return(request, request_context(request))
        )
        return returns.CreateReturnResponse(order_return=returns_wire.order_return(order_return))

    async def GetReturn(
        self, request: returns.GetReturnRequest, context: CallContext
    ) -> returns.GetReturnResponse:
        order_return = await self.operations.get_return(UUID(request.return_id))
        return returns.GetReturnResponse(order_return=returns_wire.order_return(order_return))

    async def ListReturns(
        self, request: returns.ListReturnsRequest, context: CallContext
    ) -> returns.ListReturnsResponse:
        page = page_request(
            request, partial(returns_wire.order_return, view=request.view), datetime, UUID
        )
        returns_, token = await self.operations.list_returns(
            returns_wire.return_filter(request), page
        )
        return returns.ListReturnsResponse(returns=returns_, next_page_token=token)

    async def ListReturnTransitions(
        self, request: returns.ListReturnTransitionsRequest, context: CallContext
    ) -> returns.ListReturnTransitionsResponse:
        page = page_request(request, returns_wire.return_transition, int)
        transitions, token = await self.operations.list_transitions(UUID(request.return_id), page)
        return returns.ListReturnTransitionsResponse(transitions=transitions, next_page_token=token)

    async def ApproveReturn(
        self, request: returns.ApproveReturnRequest, context: CallContext
    ) -> returns.ApproveReturnResponse:
        order_return = await self.operations.change(
            returns_wire.move_return(request, request_context(request))
        )
        return returns.ApproveReturnResponse(order_return=returns_wire.order_return(order_return))

    async def RejectReturn(
        self, request: returns.RejectReturnRequest, context: CallContext
    ) -> returns.RejectReturnResponse:
        order_return = await self.operations.change(
            returns_wire.move_return(request, request_context(request))
        )
        return returns.RejectReturnResponse(order_return=returns_wire.order_return(order_return))

    async def MarkReturnInTransit(
        self, request: returns.MarkReturnInTransitRequest, context: CallContext
    ) -> returns.MarkReturnInTransitResponse:
        order_return = await self.operations.change(
            returns_wire.move_return(request, request_context(request))
        )
        return returns.MarkReturnInTransitResponse(
            order_return=returns_wire.order_return(order_return)
        )

    async def ReceiveReturn(
        self, request: returns.ReceiveReturnRequest, context: CallContext
    ) -> returns.ReceiveReturnResponse:
        order_return = await self.operations.change(
            returns_wire.receive_return(request, request_context(request))
        )
        return returns.ReceiveReturnResponse(order_return=returns_wire.order_return(order_return))

    async def InspectReturn(
        self, request: returns.InspectReturnRequest, context: CallContext
    ) -> returns.InspectReturnResponse:
        order_return = await self.operations.change(
            returns_wire.inspect_return(request, request_context(request))
        )
        return returns.InspectReturnResponse(order_return=returns_wire.order_return(order_return))

    async def CancelReturn(
        self, request: returns.CancelReturnRequest, context: CallContext
    ) -> returns.CancelReturnResponse:
        order_return = await self.operations.change(
            returns_wire.move_return(request, request_context(request))
        )
        return returns.CancelReturnResponse(order_return=returns_wire.order_return(order_return))
