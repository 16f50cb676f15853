"""Reports of the carrier. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from shipping_svc.decisions.transitions import (
    ShipmentDecision,
    cannot_become,
    next_status,
    next_version,
)
from shipping_svc.lifecycle import REPORTABLE, TERMINAL, Reason, Status, is_further
from shipping_svc.model.commands import RecordReport
from shipping_svc.model.events import Delivered, DomainEvent, StatusChanged
from shipping_svc.model.records import RecallClosed, Row, Shipment, TrackingEvent


def record_report(shipment: Shipment, command: RecordReport, context: Context) -> ShipmentDecision:
    """Returns the shipment with the report, which is recorded once.

    A report that is further than the earlier ones changes the status. A report of parcels whose
    label is void contradicts the carrier's own answer: the first such report is an event of the
    shipment. Raises Refused ILLEGAL_TRANSITION for a status that no carrier reports, and for a
    shipment without a label.
    """
    report = command.report
    if report.carrier_event_id in shipment.recorded_reports:
        return Decision(shipment)
    if report.status not in REPORTABLE or shipment.tracking_number is None:
        raise cannot_become(shipment, report.status)
    recorded = TrackingEvent(
        shipment_id=shipment.id,
        report=report,
        record_time=context.time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )
    rows: list[Row] = [recorded]
    events: list[DomainEvent] = []
    after = replace(
        shipment, recorded_reports=shipment.recorded_reports | {report.carrier_event_id}
    )
    if is_further(shipment.status, shipment.report_time, report.status, report.occur_time):
        after = replace(after, report_time=report.occur_time)
        if report.status is not shipment.status:
            after, row = next_status(after, report.status, Reason.CARRIER_REPORTED, context)
            rows.append(row)
            events.append(StatusChanged(after, row))
            if after.status is Status.DELIVERED:
                events.append(Delivered(after, row))
            if after.status in TERMINAL and after.recall_time:
                rows.append(RecallClosed(after.id, after.purchase, after.tracking_number))
    elif shipment.status is Status.VOIDED and shipment.contradict_time is None:
        after, row = next_version(
            after, Reason.REPORTED_AFTER_VOID, context, contradict_time=context.time
        )
        rows.append(row)
        events.append(StatusChanged(after, row))
    return Decision(after, rows, events)
