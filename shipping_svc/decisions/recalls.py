"""Recalls and withdrawals of parcels, and the carrier's answers. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Stale, illegal
from chassis.values.versions import check_jump
from shipping_svc.decisions.transitions import (
    ShipmentDecision,
    fail_shipment,
    next_status,
    next_version,
)
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.commands import (
    CancelShipment,
    CloseShipment,
    RecordRecallAnswer,
    WithdrawShipment,
)
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallAnswer, RecallClosed, RecallOpened, Shipment


def cancel_shipment(
    shipment: Shipment, command: CancelShipment, context: Context
) -> ShipmentDecision:
    """Returns the shipment that a caller recalls. A recalled shipment does not change.

    Raises Stale VERSION_MISMATCH where the caller expects another version, and Refused
    ILLEGAL_TRANSITION for a shipment with a final status.
    """
    if command.expected_version not in (None, shipment.version):
        raise Stale(expected=str(command.expected_version), actual=str(shipment.version))
    if shipment.status in TERMINAL:
        raise illegal(f"The shipment is {shipment.status}: this status is final.", shipment.status)
    return close_shipment(shipment, CloseShipment(reason=Reason.RECALLED), context)


def close_shipment(
    shipment: Shipment, command: CloseShipment, context: Context
) -> ShipmentDecision:
    """Returns the shipment with a recall of its label; a failed one where it has no label.

    A recalled shipment, or one with a final status, does not change.
    """
    if shipment.status in TERMINAL or shipment.recall_time:
        return Decision(shipment)
    if shipment.tracking_number is None:
        return fail_shipment(shipment, command.reason, context)
    after, row = next_version(shipment, command.reason, context, recall_time=context.time)
    recall = RecallOpened(
        shipment_id=after.id,
        purchase=after.purchase,
        tracking_number=after.tracking_number,
        time=context.time,
    )
    return Decision(after, [row, recall], [StatusChanged(after, row)])


def withdraw_shipment(
    shipment: Shipment, command: WithdrawShipment, context: Context
) -> ShipmentDecision:
    """Returns the shipment whose fulfilment withdraws its parcels.

    Where the label is bought and no report follows it, its recall is requested: the carrier's
    answer or its first report decides, and that event says whether the withdrawal was in time. In
    any other status the event of this decision says so.
    """
    if shipment.withdraw_version is not None:
        return Decision(shipment)  # an earlier command withdrew it
    record = f"Fulfilment {shipment.fulfillment_id}"
    check_jump(shipment.fulfillment_version, command.version, record)
    withdrawn = replace(shipment, withdraw_version=command.version)
    if shipment.status is Status.PENDING:
        return fail_shipment(withdrawn, Reason.FULFILLMENT_WITHDRAWN, context)
    if shipment.status is Status.CREATED:
        after, row = next_version(withdrawn, Reason.FULFILLMENT_WITHDRAWN, context)
        recall = RecallOpened(
            shipment_id=after.id,
            purchase=after.purchase,
            tracking_number=after.tracking_number,
            time=context.time,
            bring_back=after.recall_time is not None,
        )
        return Decision(after, [row, recall])
    in_warehouse = shipment.status in (Status.FAILED, Status.VOIDED)
    reason = Reason.FULFILLMENT_WITHDRAWN if in_warehouse else Reason.WITHDRAWAL_TOO_LATE
    after, row = next_version(withdrawn, reason, context)
    return Decision(after, [row], [StatusChanged(after, row)])


def record_recall_answer(
    shipment: Shipment, command: RecordRecallAnswer, context: Context
) -> ShipmentDecision:
    """Returns the shipment after the carrier's answer to a recall, which closes the recall.

    A void label ends the shipment, for the reason of its recall. Where the carrier has the parcels,
    the shipment keeps its status until the carrier reports, and a withdrawal is too late. TOO_LATE
    leaves the recall open where the shipment was recalled after the request was sent.
    """
    recall_closed = RecallClosed(shipment.id, command.purchase, command.tracking_number)
    is_current = command.purchase == shipment.purchase and shipment.status is Status.CREATED
    if command.answer is RecallAnswer.TOO_LATE and shipment.recall_time and is_current:
        return Decision(shipment)  # recalled after the request: the recall stays open
    if not is_current:
        return Decision(shipment, [recall_closed])
    if command.answer is RecallAnswer.VOIDED:
        voided, row = next_status(shipment, Status.VOIDED, Reason(shipment.reason), context)
        return Decision(voided, [row, recall_closed], [StatusChanged(voided, row)])
    if shipment.withdraw_version is None:
        return Decision(shipment, [recall_closed])
    after, row = next_version(shipment, Reason.WITHDRAWAL_TOO_LATE, context)
    return Decision(after, [row, recall_closed], [StatusChanged(after, row)])
