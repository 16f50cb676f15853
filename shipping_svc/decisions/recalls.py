"""Parcels are to come back: recalls, withdrawals, and the carrier's answers. Pure."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Stale, illegal
from chassis.values.versions import check_jump
from shipping_svc.decisions.steps import Decided, changed, fail, step
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.commands import Cancel, Close, KeepRecall, Withdraw
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallClosed, Recalled, RecallOpened, Shipment


def cancel(shipment: Shipment, command: Cancel, context: Context) -> Decided:
    """The recall of a caller. A shipment that is recalled already does not change.

    Raises Stale VERSION_MISMATCH where the caller expects another version, and Refused
    ILLEGAL_TRANSITION for a shipment at its end.
    """
    if command.expected_version not in (None, shipment.version):
        raise Stale(expected=str(command.expected_version), actual=str(shipment.version))
    if shipment.status in TERMINAL:
        raise illegal(
            f"The shipment is {shipment.status}: it has come to its end.", shipment.status
        )
    return recall(shipment, Close(reason=Reason.RECALLED), context)


def recall(shipment: Shipment, command: Close, context: Context) -> Decided:
    """The shipment failed where it has no label; else the recall that the carrier is asked for.

    A shipment that is recalled already, or at its end, does not change.
    """
    if shipment.status in TERMINAL or shipment.recall_time:
        return Decision(shipment)
    if shipment.tracking_number is None:
        return fail(shipment, command.reason, context)
    after, row = changed(shipment, command.reason, context, recall_time=context.time)
    recalled = RecallOpened(
        shipment_id=after.id,
        purchase=after.purchase,
        tracking_number=after.tracking_number,
        time=context.time,
    )
    return Decision(after, [row, recalled], [StatusChanged(after, row)])


def withdraw(shipment: Shipment, command: Withdraw, context: Context) -> Decided:
    """The answer to a withdrawal: there is no label, the label is void, or the carrier has the
    parcels.

    An event has the answer at once where it is known. Where there is a label, the carrier's answer
    or its first report decides.
    """
    if shipment.withdraw_version is not None:
        return Decision(shipment)  # it is answered, or will be
    record = f"Fulfilment {shipment.fulfillment_id}"
    check_jump(shipment.fulfillment_version, command.version, record)
    wanted = replace(shipment, withdraw_version=command.version)
    if shipment.status is Status.PENDING:
        return fail(wanted, Reason.FULFILLMENT_WITHDRAWN, context)
    if shipment.status is Status.CREATED:
        after, row = changed(wanted, Reason.FULFILLMENT_WITHDRAWN, context)
        asked = RecallOpened(
            shipment_id=after.id,
            purchase=after.purchase,
            tracking_number=after.tracking_number,
            time=context.time,
            bring_back=after.recall_time is not None,
        )
        return Decision(after, [row, asked])
    stays = shipment.status in (Status.FAILED, Status.VOIDED)
    reason = Reason.FULFILLMENT_WITHDRAWN if stays else Reason.WITHDRAWAL_TOO_LATE
    after, row = changed(wanted, reason, context)
    return Decision(after, [row], [StatusChanged(after, row)])


def keep_recall(shipment: Shipment, command: KeepRecall, context: Context) -> Decided:
    """The shipment after the carrier's answer to a recall, which closes the recall.

    A void label ends the shipment, for the reason of its recall. Parcels on their way stay there
    until the carrier reports; a withdrawal of theirs is too late. An answer that lets the parcels
    go on does not answer a recall that was opened since.
    """
    closed = RecallClosed(shipment.id, command.purchase, command.tracking_number)
    its_own = command.purchase == shipment.purchase and shipment.status is Status.CREATED
    if command.answer is Recalled.TOO_LATE and shipment.recall_time and its_own:
        return Decision(shipment)  # they were recalled since: the carrier is asked for that as well
    if not its_own:
        return Decision(shipment, [closed])
    if command.answer is Recalled.VOIDED:
        voided, row = step(shipment, Status.VOIDED, Reason(shipment.reason), context)
        return Decision(voided, [row, closed], [StatusChanged(voided, row)])
    if shipment.withdraw_version is None:
        return Decision(shipment, [closed])
    after, row = changed(shipment, Reason.WITHDRAWAL_TOO_LATE, context)
    return Decision(after, [row, closed], [StatusChanged(after, row)])
