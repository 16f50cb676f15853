"""Shipments of ready fulfilments, requested from the shipping service."""

from uuid import uuid5

import structlog

from chassis.observe import telemetry
from chassis.values.errors import Deferred, Failure
from fulfillment_svc.model.records import Fulfillment
from fulfillment_svc.peers import Shipping

_log = structlog.get_logger(__name__)


class ShippingOperations:
    """The request for a shipment."""

    def __init__(self, peer: Shipping) -> None:
        self.peer = peer
        self._shipments = telemetry.counter(
            "fulfillment_shipment_calls_total",
            "Shipments asked for at once, by what came of it",
            "outcome",
        )

    async def request_shipment(self, fulfillment: Fulfillment) -> None:
        """Best effort: where it fails, shipping makes the shipment when it consumes the event of
        the ready fulfilment.
        """
        try:
            # Made ready again, with other packages, it is another version, and another request.
            request_id = uuid5(fulfillment.id, f"CreateShipment:{fulfillment.version}")
            await self.peer.create_shipment(request_id, fulfillment)
        except Failure as failure:
            self._shipments.labels("later" if isinstance(failure, Deferred) else "refused").inc()
            _log.warning(
                "no shipment at once",
                fulfillment_id=str(fulfillment.id),
                reason=failure.reason,
                message=failure.message,
            )
        else:
            self._shipments.labels("done").inc()
