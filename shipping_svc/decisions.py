"""The verbs: what a shipment becomes when something is asked of it or told of it. Pure: no I/O,
no clock, no chance.
"""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Exists, NotFound, Refused, Stale, illegal
from chassis.versions import check_jump
from shipping_svc.lifecycle import MOVES, REPORTABLE, TERMINAL, Reason, Status, further
from shipping_svc.model import (
    CJK_SCRIPTS,
    AskForShipment,
    BuryFulfillment,
    BuryOrder,
    Cancel,
    Close,
    Command,
    Created,
    DeadFulfillment,
    DeadOrder,
    Delivered,
    Fact,
    GiveUp,
    KeepLabel,
    KeepRecall,
    KeptLabel,
    RecallClosed,
    Recalled,
    RecallOpened,
    RecordReport,
    Row,
    Shipment,
    ShipmentCommand,
    StatusChanged,
    TrackingEvent,
    Transition,
    Wanted,
    Withdraw,
)

Decided = Decision[Shipment, Row]
# Why a carrier sells no label, now and at every later ask.
REFUSALS = frozenset({Reason.CARRIER_REFUSED, Reason.LABEL_NOT_PRINTABLE})


def decide(shipment: Shipment | None, command: ShipmentCommand, now: datetime) -> Decided:
    """What becomes of the shipment; raises a Failure where nothing may. The same record back:
    the command is skipped.
    """
    if isinstance(command, AskForShipment):
        return ask(shipment, command, now)
    if shipment is None:
        raise NotFound(
            "SHIPMENT_NOT_FOUND",
            f"There is no shipment {command.target}.",
            shipment_id=str(command.target),
        )
    match command:
        case KeepLabel():
            return keep_label(shipment, command, now)
        case GiveUp():
            return give_up(shipment, command, now)
        case RecordReport():
            return record_report(shipment, command, now)
        case Cancel():
            return cancel(shipment, command, now)
        case Close():
            return recall(shipment, command.reason, command, now)
        case Withdraw():
            return withdraw(shipment, command, now)
        case KeepRecall():
            return keep_recall(shipment, command, now)


def ask(shipment: Shipment | None, command: AskForShipment, now: datetime) -> Decided:
    """The intent, before any label is bought: after a crash it says what is still to be done. A
    fulfilment has one shipment.
    """
    wanted = command.wanted
    stored = shipment.fulfillment_version if shipment else command.stored_version
    check_jump(stored, wanted.fulfillment_version, f"Fulfilment {wanted.fulfillment_id}")
    if shipment:
        if (shipment.order_id, shipment.attempt, shipment.warehouse_id) != (
            wanted.order_id,
            wanted.attempt,
            wanted.warehouse_id,
        ):
            text = (
                f"Fulfilment {shipment.fulfillment_id} has a shipment, of another order or"
                " warehouse."
            )
            raise Exists("SHIPMENT_ALREADY_EXISTS", text, shipment_id=str(shipment.id))
        return repack(shipment, command, now)
    shipment = Shipment(
        id=command.target,
        order_id=wanted.order_id,
        attempt=wanted.attempt,
        fulfillment_id=wanted.fulfillment_id,
        warehouse_id=wanted.warehouse_id,
        status=Status.PENDING,
        reason=Reason.FULFILLMENT_READY,
        carrier=command.carrier,
        carrier_code=None,
        tracking_number=None,
        version=1,
        create_time=now,
        update_time=now,
        report_time=None,
        deliver_time=None,
        fulfillment_version=wanted.fulfillment_version,
        parcels=wanted.parcels,
    )
    return Decision(shipment, [transition(shipment, None, command)])


def repack(shipment: Shipment, command: AskForShipment, now: datetime) -> Decided:
    """The shipment with the parcels of the newest ask, as long as no label is bought; what was
    bought for others is not wanted any more.

    A label that is known to be bought is for what it is for.
    """
    wanted = command.wanted
    if (
        shipment.status is not Status.PENDING
        or wanted.fulfillment_version <= shipment.fulfillment_version
    ):
        return Decision(shipment)
    after = replace(
        shipment, parcels=wanted.parcels, fulfillment_version=wanted.fulfillment_version
    )
    if after.parcels == shipment.parcels:
        return Decision(after)
    again = replace(after, purchase=shipment.purchase + 1)
    after, row = on_the_spot(again, Reason.REPACKED, command, now)
    return Decision(after, [row, unheard_of(shipment, now)])


def keep_label(shipment: Shipment, command: KeepLabel, now: datetime) -> Decided:
    """The label of the present purchase makes it created; it fails where another live shipment
    has the tracking number.
    """
    if shipment.status is Status.FAILED or command.purchase < shipment.purchase:
        # Nobody wanted it any more, or its parcels were packed anew, while it was being sold: the
        # carrier takes it back.
        return Decision(
            shipment,
            [RecallOpened(shipment.id, command.purchase, command.label.tracking_number, now)],
        )
    if shipment.status is not Status.PENDING:
        # another replica was as quick; the carrier sold the same label twice, for one key
        return Decision(shipment)
    if command.label.tracking_number in shipment.rivals:
        # Reports could not tell the two apart. The label goes back by its purchase: its number
        # would name the other's.
        return fail(shipment, Reason.TRACKING_NUMBER_IN_USE, command, now)
    bought = replace(shipment, tracking_number=command.label.tracking_number)
    created, row = step(bought, Status.CREATED, Reason.LABEL_BOUGHT, command, now)
    return Decision(created, [row, KeptLabel(created.id, command.label)], [Created(created, row)])


def give_up(shipment: Shipment, command: GiveUp, now: datetime) -> Decided:
    """No more than what was offered is refused: what was packed since has its own try."""
    if shipment.status is not Status.PENDING or command.purchase not in (None, shipment.purchase):
        return Decision(shipment)
    if command.purchase is None:
        return fail(shipment, command.reason, command, now)
    refused = replace(shipment, carrier_code=command.carrier_code)
    failed, row = step(refused, Status.FAILED, command.reason, command, now)
    return Decision(failed, [row], [StatusChanged(failed, row)])


def fail(shipment: Shipment, reason: Reason, command: Command, now: datetime) -> Decided:
    """There will be no label. One may have been sold, and the word of it be lost or under way:
    the carrier takes it back.
    """
    failed, row = step(shipment, Status.FAILED, reason, command, now)
    return Decision(failed, [row, unheard_of(shipment, now)], [StatusChanged(failed, row)])


def unheard_of(shipment: Shipment, now: datetime) -> RecallOpened:
    """The recall of what the present purchase may have bought, as far as we know nothing."""
    return RecallOpened(shipment.id, shipment.purchase, None, now)


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


def on_the_spot(
    shipment: Shipment, reason: Reason, command: Command, now: datetime
) -> tuple[Shipment, Transition]:
    """The shipment one version on in its status, and its row of history."""
    after = replace(shipment, reason=reason, version=shipment.version + 1, update_time=now)
    return after, transition(after, after.status, command)


def step(
    shipment: Shipment,
    new: Status,
    reason: Reason,
    command: Command,
    now: datetime,
) -> tuple[Shipment, Transition]:
    """The shipment one status and one version on, and its row of history. Refused where the
    table has no such move.
    """
    if new not in MOVES[shipment.status]:
        raise cannot_become(shipment, new)
    after = replace(
        shipment, status=new, reason=reason, version=shipment.version + 1, update_time=now
    )
    return after, transition(after, shipment.status, command)


def transition(after: Shipment, old: Status | None, command: Command) -> Transition:
    """The row of history of the shipment's newest version; `old` is None for its first."""
    return Transition(
        shipment_id=after.id,
        version=after.version,
        old=old,
        new=after.status,
        reason=after.reason,
        actor=command.actor,
        cause=command.cause,
        time=after.update_time,
        claimed_actor=command.claimed_actor,
        note=command.note,
    )


def cannot_become(shipment: Shipment, new: Status) -> Refused:
    return illegal(
        f"A shipment that is {shipment.status} cannot become {new}.",
        shipment.status,
        MOVES[shipment.status],
    )


def refusal(shipment: Shipment, *, cjk_installed: bool = True) -> Refused | None:
    """Why there is no label and never will be, as its asker is told; None where there is one, or
    may yet be. `cjk_installed`: whether the font of the extra `cjk` is.
    """
    if shipment.status is not Status.FAILED:
        return None
    if shipment.reason == Reason.LABEL_NOT_PRINTABLE:
        return not_printable(shipment, cjk_installed)
    if shipment.reason == Reason.CARRIER_REFUSED:
        code = shipment.carrier_code or ""
        text = f"{shipment.carrier} refuses the shipment: {code}."
        return Refused(
            "CARRIER_REFUSED",
            text,
            carrier=shipment.carrier,
            carrier_code=code,
            shipment_id=str(shipment.id),
        )
    if shipment.reason == Reason.TRACKING_NUMBER_IN_USE:
        text = f"{shipment.carrier} sold a tracking number that another of its live shipments has."
        return Refused(
            "TRACKING_NUMBER_IN_USE", text, carrier=shipment.carrier, shipment_id=str(shipment.id)
        )
    by_death = shipment.reason in (Reason.ORDER_CLOSED, Reason.FULFILLMENT_CANCELLED)
    return closed(shipment, shipment.reason) if by_death else no_label(shipment)


def not_printable(shipment: Shipment, cjk_installed: bool) -> Refused:
    """The refusal of an address that no installed font prints. It names scripts, and nothing of
    the address, and advises the extra `cjk` where that would print all of them.
    """
    scripts = shipment.carrier_code or ""
    advice = "Have the recipient written in Latin, Greek or Cyrillic letters"
    if not cjk_installed and CJK_SCRIPTS.issuperset(scripts.split(", ")):
        advice = "Install the extra `cjk` (pip install 'ordermesh[cjk]') and restart shipping"
    text = (
        f"No installed font prints the recipient's script ({scripts}). {advice}; then cancel this"
        " order, and place it again."
    )
    return Refused(
        "LABEL_NOT_PRINTABLE",
        text,
        carrier=shipment.carrier,
        scripts=scripts,
        shipment_id=str(shipment.id),
    )


def no_label(shipment: Shipment) -> Refused:
    """The refusal of a label that is not bought (yet), or void."""
    return illegal(
        f"The shipment is {shipment.status}: there is no label.",
        shipment.status,
        MOVES[shipment.status],
    )


def closed(asked: Shipment | Wanted, reason: str) -> Refused:
    """The refusal of everything that would ship the goods of what is dead."""
    if reason == Reason.ORDER_CLOSED:
        return Refused(
            "ORDER_CLOSED",
            "The order is dead: nothing is shipped for it.",
            order_id=str(asked.order_id),
        )
    return illegal(
        "The fulfilment is cancelled: nothing is shipped for it.",
        "cancelled",
        fulfillment_id=str(asked.fulfillment_id),
    )


def bury_fulfillment(
    fulfillment: DeadFulfillment | None, command: BuryFulfillment, now: datetime
) -> Decision[DeadFulfillment, None]:
    """Remembers that a fulfilment is cancelled: it never lives again."""
    check_jump(
        fulfillment.version if fulfillment else 0, command.version, f"Fulfilment {command.target}"
    )
    return Decision(fulfillment or DeadFulfillment(command.target, command.version, now))


def bury(order: DeadOrder | None, command: BuryOrder, now: datetime) -> Decision[DeadOrder, None]:
    """Remembers an order's last death. Life is not noted: a later attempt is not dead, whatever
    the earlier ones are.
    """
    check_jump(order.version if order else 0, command.version, f"Order {command.target}")
    if order and command.version <= order.version:
        return Decision(order)
    return Decision(
        DeadOrder(command.target, command.attempt, command.status, command.version, now)
    )
