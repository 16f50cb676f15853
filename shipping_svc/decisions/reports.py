"""The carrier reports where the parcels are. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from shipping_svc.decisions.steps import Decided, cannot_become, on_the_spot, step
from shipping_svc.lifecycle import REPORTABLE, TERMINAL, Reason, Status, further
from shipping_svc.model.commands import RecordReport
from shipping_svc.model.events import Delivered, Fact, StatusChanged
from shipping_svc.model.records import RecallClosed, Row, Shipment, TrackingEvent


def record_report(shipment: Shipment, command: RecordReport, now: datetime) -> Decided:
    """Every report is recorded, once. It moves the shipment if it is further than what was
    reported before. One of parcels whose label is void contradicts the carrier's own word: that
    is remembered, and told, once.
    """
    report = command.report
    if report.carrier_event_id in shipment.known_reports:
        return Decision(shipment)
    if report.status not in REPORTABLE or shipment.tracking_number is None:
        raise cannot_become(shipment, report.status)
    recorded = TrackingEvent(
        shipment_id=shipment.id,
        report=report,
        record_time=now,
        claimed_actor=command.claimed_actor,
        note=command.note,
    )
    rows: list[Row] = [recorded]
    facts: list[Fact] = []
    after = replace(shipment, known_reports=shipment.known_reports | {report.carrier_event_id})
    if further(shipment.status, shipment.report_time, report.status, report.occur_time):
        after = replace(after, report_time=report.occur_time)
        if report.status is not shipment.status:
            if report.status is Status.DELIVERED:
                after = replace(after, deliver_time=report.occur_time)
            after, row = step(after, report.status, Reason.CARRIER_REPORTED, command, now)
            rows.append(row)
            facts.append(StatusChanged(after, row))
            if after.status is Status.DELIVERED:
                facts.append(Delivered(after, row))
            if after.status in TERMINAL and after.recall_time:
                rows.append(RecallClosed(after.id, after.purchase, after.tracking_number))
    elif shipment.status is Status.VOIDED and shipment.contradict_time is None:
        contradicted = replace(after, contradict_time=now)
        after, row = on_the_spot(contradicted, Reason.REPORTED_AFTER_VOID, command, now)
        rows.append(row)
        facts.append(StatusChanged(after, row))
    return Decision(after, rows, facts)
