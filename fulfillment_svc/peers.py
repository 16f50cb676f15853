"""RPCs out: the calls of the fulfilment service to the warehouse and to shipping."""

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
from fulfillment_svc.model.commands import CommitAnswer, Committed, NotCommitted
from fulfillment_svc.model.records import (
    Fulfillment,
    FulfillmentKey,
    Line,
    LinesByWarehouse,
    OrderAttempt,
    ReplacedLine,
    SpoiledLine,
)

REPLACE_TIMEOUT_S: Final = 5.0
# The packer waits for this call; shipping consumes the event of the fulfilment anyway.
SHIPMENT_TIMEOUT_S: Final = 2.0


class Warehouse:
    """The warehouse service."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ReservationServiceStub(channel)

    async def commit(
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
            first = await self.commit(uuid5(request_id, "first"), attempts[:half])
            return first | await self.commit(uuid5(request_id, "second"), attempts[half:])
        results = {UUID(result.order_id): result for result in response.results}
        return {
            each: _answer(results[each.order_id]) for each in attempts if each.order_id in results
        }

    async def replace_spoiled(
        self, key: FulfillmentKey, lines: Sequence[SpoiledLine]
    ) -> tuple[ReplacedLine, ...]:
        """Posts units as damaged, and commits others in their place as far as there are any.

        A repeat changes nothing. Raises Deferred where the warehouse cannot be reached, another
        Failure where it has not so many units.
        """
        named = ",".join(f"{line.line_number}:{line.spoiled}:{line.short}" for line in lines)
        request = warehouse_api.ReplaceSpoiledUnitsRequest(
            request_id=str(
                uuid5(key.order_id, f"ReplaceSpoiledUnits:{key.attempt}:{key.warehouse_id}:{named}")
            ),
            order_attempt=warehouse_api.OrderAttempt(
                order_id=str(key.order_id), attempt=key.attempt
            ),
            warehouse_id=key.warehouse_id,
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
        requested = {line.line_number for line in lines}
        return tuple(
            ReplacedLine(
                line_number=line.line_number,
                units=line.quantity - line.released - line.reserved,
                committed=line.committed,
                spoiled=line.spoiled,
            )
            for line in response.reservation.lines
            if line.line_number in requested
        )


class Shipping:
    """The shipping service."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ShippingServiceStub(channel)

    async def create_shipment(self, request_id: UUID, fulfillment: Fulfillment) -> UUID:
        """Returns the shipment of the fulfilment, one parcel for each package, made now or before.

        Raises a Failure where there is none.
        """
        request = shipping_api.CreateShipmentRequest(
            request_id=str(request_id),
            fulfillment_id=str(fulfillment.id),
            order_id=str(fulfillment.key.order_id),
            attempt=fulfillment.key.attempt,
            warehouse_id=fulfillment.key.warehouse_id,
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
        # After a defect of the warehouse, the stock may be committed.
        final = not result.failure.retryable and result.failure.reason != "INTERNAL"
        return NotCommitted(final=final)
    if lines_by_warehouse := _committed_lines(result.reservations):
        return Committed(lines_by_warehouse)
    return NotCommitted(final=True)


def _committed_lines(reservations: Sequence[warehouse_pb2.Reservation]) -> LinesByWarehouse:
    """Returns the committed lines, by warehouse: without units that expired or were released."""
    lines_by_warehouse: defaultdict[str, list[Line]] = defaultdict(list)
    for reservation in reservations:
        lines_by_warehouse[reservation.warehouse_id] += [
            Line(line_number=each.line_number, sku=each.sku, quantity=each.committed)
            for each in reservation.lines
            if each.committed
        ]
    return {
        warehouse_id: tuple(sorted(lines, key=lambda line: line.line_number))
        for warehouse_id, lines in lines_by_warehouse.items()
        if lines
    }
