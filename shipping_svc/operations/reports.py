"""The carrier's reports."""

import structlog

from chassis.observe import telemetry
from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from chassis.values.request_context import RequestContext
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc.lifecycle import Status
from shipping_svc.model.commands import RecordReport
from shipping_svc.model.records import Report, Shipment
from shipping_svc.store.reports import find_reported

_log = structlog.get_logger(__name__)


class ReportOperations:
    """The recording of reports."""

    def __init__(self, database: Database, writer: Writer[Shipment]) -> None:
        self.database, self.writer = database, writer
        self._contradictions = telemetry.counter(
            "shipping_reports_after_void_total",
            "Reports of parcels whose label the carrier had confirmed as void: alert on it",
        )

    async def record_report(
        self, context: RequestContext, carrier: str, tracking_number: str, report: Report
    ) -> Shipment:
        """Records the carrier's report, and returns the shipment with this tracking number.

        Of several it is the one that has recorded this report, else the live one, else the latest.
        Raises NotFound SHIPMENT_NOT_FOUND.
        """
        async with self.database.read() as connection:
            shipment_id = await find_reported(
                connection, carrier, tracking_number, report.carrier_event_id
            )
        if shipment_id is None:
            text = f"No shipment of {carrier} has the tracking number {tracking_number}."
            raise NotFound(
                "SHIPMENT_NOT_FOUND", text, carrier=carrier, tracking_number=tracking_number
            )
        envelope = Envelope.of_request(
            context,
            RecordReport(report=report),
            target=shipment_id,
            actor=carrier,
            cause=report.carrier_event_id,
        )
        [outcome] = await self.writer.write([envelope])
        shipment = unwrap(outcome)
        if (
            shipment.status is Status.VOIDED
            and isinstance(outcome, Done)
            and not outcome.repeat
            and not outcome.skipped
        ):
            self._contradictions.inc()
            _log.error(
                "the carrier reported a parcel whose label is void",
                shipment_id=str(shipment.id),
                status=report.status,
            )
        return shipment
