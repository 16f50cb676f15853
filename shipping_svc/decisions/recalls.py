"""Parcels are to come back: recalls, withdrawals, and the carrier's answers. Pure."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Stale, illegal
from chassis.versions import check_jump
from shipping_svc.decisions.steps import Decided, fail, on_the_spot, step
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.commands import Cancel, Command, KeepRecall, Withdraw
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallClosed, Recalled, RecallOpened, Shipment


def cancel(shipment: Shipment, command: Cancel, now: datetime) -> Decided:
    """Refused where the parcels have come to rest; whoever wants back what was recalled before
    gets what is on its way back.
    """
    if command.expected_version not in (None, shipment.version):
        raise Stale(expected=str(command.expected_version), actual=str(shipment.version))
    if shipment.status in TERMINAL:
        raise illegal(
            f"The shipment is {shipment.status}: it has come to its end.", shipment.status
        )
    return recall(shipment, Reason.RECALLED, command, now)


def recall(shipment: Shipment, reason: Reason, command: Command, now: datetime) -> Decided:
    """Nothing goes out any more: there will be no label, or the carrier is to be asked for what
    it was given. Once; not after the end.
    """
    if shipment.status in TERMINAL or shipment.recall_time:
        return Decision(shipment)
    if shipment.tracking_number is None:
        return fail(shipment, reason, command, now)
    after, row = on_the_spot(replace(shipment, recall_time=now), reason, command, now)
    recalled = RecallOpened(after.id, after.purchase, shipment.tracking_number, now)
    return Decision(after, [row, recalled], [StatusChanged(after, row)])


def withdraw(shipment: Shipment, command: Withdraw, now: datetime) -> Decided:
    """The fulfilment is told whether anything of it leaves: there will be no label, the label is
    void, or the carrier has the parcels.

    It is answered at once where that is known, and by the carrier's word, or its first report,
    where there is a label.
    """
    if shipment.withdraw_version is not None:
        return Decision(shipment)  # it is answered, or will be
    record = f"Fulfilment {shipment.fulfillment_id}"
    check_jump(shipment.fulfillment_version, command.version, record)
    wanted = replace(shipment, withdraw_version=command.version)
    if shipment.status is Status.PENDING:
        return fail(wanted, Reason.FULFILLMENT_WITHDRAWN, command, now)
    if shipment.status is Status.CREATED:
        after, row = on_the_spot(wanted, Reason.FULFILLMENT_WITHDRAWN, command, now)
        asked = RecallOpened(
            after.id,
            after.purchase,
            after.tracking_number,
            now,
            bring_back=after.recall_time is not None,
        )
        return Decision(after, [row, asked])
    stays = shipment.status in (Status.FAILED, Status.VOIDED)
    reason = Reason.FULFILLMENT_WITHDRAWN if stays else Reason.WITHDRAWAL_TOO_LATE
    after, row = on_the_spot(wanted, reason, command, now)
    return Decision(after, [row], [StatusChanged(after, row)])


def keep_recall(shipment: Shipment, command: KeepRecall, now: datetime) -> Decided:
    """A void label ends its shipment, for the reason of its recall. Parcels that are on their
    way come to rest by the carrier's reports; the fulfilment that has withdrawn them is told
    that it is too late. An answer that lets them go on is none to a recall.
    """
    closed = RecallClosed(shipment.id, command.purchase, command.tracking_number)
    its_own = command.purchase == shipment.purchase and shipment.status is Status.CREATED
    if command.answer is Recalled.TOO_LATE and shipment.recall_time and its_own:
        return Decision(shipment)  # they were recalled since: the carrier is asked for that as well
    if not its_own:
        return Decision(shipment, [closed])
    if command.answer is Recalled.VOIDED:
        voided, row = step(shipment, Status.VOIDED, Reason(shipment.reason), command, now)
        return Decision(voided, [row, closed], [StatusChanged(voided, row)])
    if shipment.withdraw_version is None:
        return Decision(shipment, [closed])
    after, row = on_the_spot(shipment, Reason.WITHDRAWAL_TOO_LATE, command, now)
    return Decision(after, [row, closed], [StatusChanged(after, row)])
