"""The fulfilment service's peers: gRPC servers whose answers a test sets, and that can be stopped.
No tests here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as shipping_api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import (
    ShippingServiceServicer,
    add_ShippingServiceServicer_to_server,
)
from ordermesh.warehouse.v1 import reservation_service_pb2 as warehouse_api
from ordermesh.warehouse.v1 import warehouse_pb2
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import (
    ReservationServiceServicer,
    add_ReservationServiceServicer_to_server,
)

from chassis.rpc.server import Server
from chassis.values.errors import Deferred, Failure
from tests.servers import quick_server

Context = grpc.aio.ServicerContext[Any, Any]


class FakeWarehouse(ReservationServiceServicer):
    """Commits the units of `lines_by_warehouse` for an order, by warehouse: (line, sku, units).

    Orders in `refused` are refused; other orders are unknown.
    """

    def __init__(self) -> None:
        self.lines_by_warehouse: Mapping[str, Mapping[str, Sequence[tuple[int, str, int]]]] = {}
        self.refused: Mapping[str, warehouse_api.ReservationFailure] = {}
        self.asked: list[list[str]] = []  # the orders of each call
        # by line: units that were committed at first, for those that are found spoiled
        self.held: dict[int, int] = {}
        # by line: units that can replace spoiled ones
        self.others: dict[int, int] = {}
        self.spoiled: dict[int, int] = {}
        self.replaced: dict[int, int] = {}
        self.replacing: list[warehouse_api.ReplaceSpoiledUnitsRequest] = []
        self.lost = ""  # "question" or "answer": the message that is lost when it replaces units
        # called during each call
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def BatchConfirmReservations(
        self, request: warehouse_api.BatchConfirmReservationsRequest, context: Context
    ) -> warehouse_api.BatchConfirmReservationsResponse:
        self.asked.append([each.order_id for each in request.order_attempts])
        if self.meanwhile:
            await self.meanwhile()
        return warehouse_api.BatchConfirmReservationsResponse(
            results=[self._result(each) for each in request.order_attempts]
        )

    async def ReplaceSpoiledUnits(
        self, request: warehouse_api.ReplaceSpoiledUnitsRequest, context: Context
    ) -> warehouse_api.ReplaceSpoiledUnitsResponse:
        self.replacing.append(request)
        if self.lost == "question":
            raise Deferred("DRAINING", "lost on the way")
        reservation = _reservation(
            request.order_attempt, request.warehouse_id, warehouse_pb2.RESERVATION_STATUS_CONFIRMED
        )
        for line in request.lines:
            number, more = (
                line.line_number,
                max(0, line.spoiled_quantity - self.spoiled.get(line.line_number, 0)),
            )
            self.spoiled[number] = self.spoiled.get(number, 0) + more
            found = min(more, self.others.get(number, 0))
            self.others[number] = self.others.get(number, 0) - found
            self.replaced[number] = self.replaced.get(number, 0) + found
            units = self.held[number] + self.replaced[number]
            reservation.lines.add(
                line_number=number,
                quantity=units + 1,  # one was released before
                released=1,
                committed=units - self.spoiled[number] - line.short_quantity,
                written_off=self.spoiled[number] + line.short_quantity,
                spoiled=self.spoiled[number],
            )
        if self.meanwhile:
            await self.meanwhile()
        if self.lost:
            raise Deferred("DRAINING", "lost on the way")
        return warehouse_api.ReplaceSpoiledUnitsResponse(reservation=reservation)

    def _result(self, order_attempt: warehouse_api.OrderAttempt) -> warehouse_api.ReservationResult:
        if order_attempt.order_id not in self.lines_by_warehouse:
            unknown = warehouse_api.ReservationFailure(
                reason="RESERVATION_NOT_FOUND", retryable=False
            )
            return warehouse_api.ReservationResult(
                order_id=order_attempt.order_id,
                failure=self.refused.get(order_attempt.order_id, unknown),
            )
        # As after an expiry and a release: some of the reserved units are not committed.
        expired = _reservation(order_attempt, "NOWHERE", warehouse_pb2.RESERVATION_STATUS_EXPIRED)
        expired.lines.add(line_number=1, sku="mug", quantity=9, released=9)
        reservations = [expired]
        for at, lines in self.lines_by_warehouse[order_attempt.order_id].items():
            reservations.append(
                _reservation(order_attempt, at, warehouse_pb2.RESERVATION_STATUS_CONFIRMED)
            )
            for number, sku, units in lines:
                reservations[-1].lines.add(
                    line_number=number, sku=sku, quantity=units + 1, released=1, committed=units
                )
        return warehouse_api.ReservationResult(
            order_id=order_attempt.order_id, reservations=reservations
        )


def _reservation(
    order_attempt: warehouse_api.OrderAttempt,
    warehouse_id: str,
    status: "warehouse_pb2.ReservationStatus.ValueType",
) -> warehouse_pb2.Reservation:
    return warehouse_pb2.Reservation(
        reservation_id=str(uuid4()),
        order_id=order_attempt.order_id,
        attempt=order_attempt.attempt,
        warehouse_id=warehouse_id,
        status=status,
    )


class FakeShipping(ShippingServiceServicer):
    """Creates one shipment for each fulfilment; fails with `failure` where it is set."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.requests: list[shipping_api.CreateShipmentRequest] = []

    async def CreateShipment(
        self, request: shipping_api.CreateShipmentRequest, context: Context
    ) -> shipping_api.CreateShipmentResponse:
        self.requests.append(request)
        if self.failure:
            raise self.failure
        shipment = shipping_pb2.Shipment(
            shipment_id=str(uuid4()), fulfillment_id=request.fulfillment_id
        )
        return shipping_api.CreateShipmentResponse(shipment=shipment)


class Peer:
    """The address of a peer: it stays the same while its server stops and starts."""

    def __init__(self, register: Any) -> None:
        self._register = register
        self._server: Server | None = None
        self.address = "127.0.0.1:0"

    async def up(self) -> None:
        """Starts the peer's server."""
        self._server = quick_server([self._register], self.address)
        await self._server.start()
        self.address = f"127.0.0.1:{self._server.port}"

    async def down(self) -> None:
        """Stops the peer's server: no process listens at its address."""
        if self._server:
            await self._server.drain()
            self._server = None


@asynccontextmanager
async def warehouse(fake: FakeWarehouse) -> AsyncIterator[Peer]:
    """Runs the warehouse's server at its address."""
    peer = Peer(partial(add_ReservationServiceServicer_to_server, fake))
    await peer.up()
    yield peer
    await peer.down()


@asynccontextmanager
async def shipping(fake: FakeShipping) -> AsyncIterator[Peer]:
    """Runs shipping's server at its address."""
    peer = Peer(partial(add_ShippingServiceServicer_to_server, fake))
    await peer.up()
    yield peer
    await peer.down()
