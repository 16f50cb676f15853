"""RPCs out: whom the fulfilment service asks, and in which words."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid5

from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as shipping_api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import reservation_service_pb2 as warehouse_api
from ordermesh.warehouse.v1 import warehouse_pb2
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.rpc.client import Channel, ask, halves
from chassis.values.errors import Refused
from fulfillment_svc.model import (
    CommitAnswer,
    Committed,
    Fulfillment,
    Line,
    NotCommitted,
    OrderAttempt,
    Rebooked,
    Shares,
    Spoiling,
    Work,
)

REPLACE_TIMEOUT_S: Final = 5.0
# Whoever packs waits for this call; shipping hears of the fulfilment anyway.
SHIPMENT_TIMEOUT_S: Final = 2.0


class Warehouse:
    """The warehouse, over a channel whose breaker every call passes."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ReservationServiceStub(channel)

    async def confirm(
        self, request_id: UUID, attempts: Sequence[OrderAttempt]
    ) -> dict[OrderAttempt, CommitAnswer]:
        """Commits the stock of the attempts, up to 500, each order once, in one call. Raises
        Deferred where it cannot be reached.
        """
        entries = [
            warehouse_api.OrderAttempt(order_id=str(each.order_id), attempt=each.attempt)
            for each in attempts
        ]
        request = warehouse_api.BatchConfirmReservationsRequest(
            request_id=str(request_id), order_attempts=entries
        )
        try:
            response = await ask(self._stub.BatchConfirmReservations, request)
        except Refused as refused:
            if not (half := halves(refused, len(attempts))):
                raise
            first = await self.confirm(uuid5(request_id, "first"), attempts[:half])
            return first | await self.confirm(uuid5(request_id, "second"), attempts[half:])
        results = {UUID(result.order_id): result for result in response.results}
        return {
            each: _answer(results[each.order_id]) for each in attempts if each.order_id in results
        }

    async def replace_spoiled(self, work: Work, lines: Sequence[Spoiling]) -> tuple[Rebooked, ...]:
        """Books units as damaged, and others in their place as far as there are any.

        A repeat changes nothing. Raises Deferred where the warehouse cannot be reached, another
        Failure where it has not so many units.
        """
        named = ",".join(f"{line.line_number}:{line.spoiled}:{line.short}" for line in lines)
        request = warehouse_api.ReplaceSpoiledUnitsRequest(
            request_id=str(
                uuid5(
                    work.order_id, f"ReplaceSpoiledUnits:{work.attempt}:{work.warehouse_id}:{named}"
                )
            ),
            order_attempt=warehouse_api.OrderAttempt(
                order_id=str(work.order_id), attempt=work.attempt
            ),
            warehouse_id=work.warehouse_id,
            lines=[
                warehouse_api.SpoiledLine(
                    line_number=line.line_number,
                    spoiled_quantity=line.spoiled,
                    short_quantity=line.short,
                )
                for line in lines
            ],
        )
        response = await ask(self._stub.ReplaceSpoiledUnits, request, timeout_s=REPLACE_TIMEOUT_S)
        asked = {line.line_number for line in lines}
        return tuple(
            Rebooked(
                line_number=line.line_number,
                units=line.quantity - line.released - line.reserved,
                committed=line.committed,
                spoiled=line.spoiled,
            )
            for line in response.reservation.lines
            if line.line_number in asked
        )


class Shipping:
    """Shipping, over its channel."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ShippingServiceStub(channel)

    async def create_shipment(self, request_id: UUID, fulfillment: Fulfillment) -> UUID:
        """The shipment for the fulfilment, one parcel for each package, made now or before.
        Raises a Failure where there is none.
        """
        request = shipping_api.CreateShipmentRequest(
            request_id=str(request_id),
            fulfillment_id=str(fulfillment.id),
            order_id=str(fulfillment.work.order_id),
            attempt=fulfillment.work.attempt,
            warehouse_id=fulfillment.work.warehouse_id,
            fulfillment_version=fulfillment.version,
            parcels=[
                shipping_pb2.Parcel(
                    weight_grams=p.weight_grams,
                    length_mm=p.length_mm,
                    width_mm=p.width_mm,
                    height_mm=p.height_mm,
                )
                for p in fulfillment.packages
            ],
        )
        response = await ask(self._stub.CreateShipment, request, timeout_s=SHIPMENT_TIMEOUT_S)
        return UUID(response.shipment.shipment_id)


def _answer(result: warehouse_api.ReservationResult) -> CommitAnswer:
    if result.HasField("failure"):
        # a defect says nothing of the stock
        final = not result.failure.retryable and result.failure.reason != "INTERNAL"
        return NotCommitted(result.failure.reason, final=final)
    if shares := _committed(result.reservations):
        return Committed(shares)
    return NotCommitted("RESERVATION_CLOSED", final=True)


def _committed(reservations: Sequence[warehouse_pb2.Reservation]) -> Shares:
    """What lies committed, by warehouse: of what was reserved, neither what has expired nor what
    was given up since.
    """
    shares: defaultdict[str, list[Line]] = defaultdict(list)
    for reservation in reservations:
        shares[reservation.warehouse_id] += [
            Line(each.line_number, each.sku, each.committed)
            for each in reservation.lines
            if each.committed
        ]
    return {
        at: tuple(sorted(lines, key=lambda line: line.line_number))
        for at, lines in shares.items()
        if lines
    }
