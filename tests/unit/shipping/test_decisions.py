"""The decisions about a shipment, by tables: each command in each status."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Exists, NotFound, Refused, Stale
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.decisions.refusals import refusal
from shipping_svc.decisions.steps import ShipmentDecision
from shipping_svc.lifecycle import LABELLED, MOVES, REPORTABLE, STAGE, TERMINAL, Reason, Status
from shipping_svc.model.commands import CloseFulfillment, CloseOrder, RecordLabel
from shipping_svc.model.events import Created, Delivered, StatusChanged
from shipping_svc.model.records import (
    BoughtLabel,
    ClosedFulfillment,
    ClosedOrder,
    Parcel,
    RecallAnswer,
    RecallClosed,
    RecallOpened,
    Row,
    TrackingEvent,
    Transition,
    is_closed,
)
from tests.unit.shipping.samples import (
    FULFILLMENT,
    LABEL,
    NOON,
    ORDER,
    PARCELS,
    SHIPMENT,
    cancel_shipment,
    changed,
    close_shipment,
    create_shipment,
    envelope,
    fail_label,
    record_label,
    record_recall_answer,
    report,
    shipment,
    shipment_request,
    withdraw_shipment,
)

LATER = NOON + timedelta(hours=1)


def as_step(row: Row) -> Transition:
    """Returns the row as one of the shipment's history."""
    assert isinstance(row, Transition)
    return row


def test_first_request_stores_pending_shipment() -> None:
    """The first request creates a pending shipment with a row of history, and no event."""
    decided = decide(None, create_shipment(), NOON)
    assert decided.record == shipment("pending")
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=1,
            old=None,
            new=Status.PENDING,
            reason="FULFILLMENT_READY",
            actor="fulfillment",
            cause="e1",
            time=NOON,
        )
    ]
    assert not decided.facts


@pytest.mark.parametrize("status", Status)
def test_second_request_returns_shipment(status: Status) -> None:
    """The second of call and event changes nothing, in every status of the shipment."""
    there = shipment(status)
    decided = decide(there, create_shipment(target=FULFILLMENT), LATER)
    assert decided.record is there
    assert not decided.history
    assert not decided.facts


NEW_PARCELS = (Parcel(weight_grams=900, length_mm=300, width_mm=200, height_mm=100),)


@pytest.mark.parametrize("status", Status)
def test_newer_parcels_replace_those_without_label(status: Status) -> None:
    """A newer request replaces the parcels that wait for a label: a new version without an event,
    and a new purchase. A label that may have been sold for the old parcels is recalled.
    """
    there = shipment(status, fulfillment_version=7)
    decided = decide(there, create_shipment(fulfillment_version=10, parcels=NEW_PARCELS), LATER)
    if status is not Status.PENDING:
        assert decided.record is there
        return
    record = decided.record
    assert (record.parcels, record.fulfillment_version, record.version, record.purchase) == (
        NEW_PARCELS,
        10,
        2,
        1,
    )
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.PENDING,
            reason="REPACKED",
            actor="fulfillment",
            cause="e1",
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER),
    ]
    assert not decided.facts


@pytest.mark.parametrize("version", [0, 6, 7])
def test_older_request_repacks_nothing(version: int) -> None:
    """Requests arrive in any order: only a greater version of the fulfilment is newer, and an
    unknown one is older than any.
    """
    there = shipment("pending", fulfillment_version=7)
    assert (
        decide(
            there, create_shipment(fulfillment_version=version, parcels=NEW_PARCELS), LATER
        ).record
        is there
    )


def test_label_of_replaced_parcels_is_recalled() -> None:
    """The parcels were replaced during the sale of a label: that label goes back to the carrier,
    before or after the purchase for the newer parcels.
    """
    waiting = decide(
        shipment("pending", fulfillment_version=7),
        create_shipment(fulfillment_version=10, parcels=NEW_PARCELS),
        LATER,
    ).record
    its_own = replace(LABEL, tracking_number="SBX0000000002")
    created = decide(waiting, record_label(label=its_own, purchase=1), LATER).record
    assert (created.status, created.parcels, created.tracking_number) == (
        Status.CREATED,
        NEW_PARCELS,
        "SBX0000000002",
    )
    for there in (waiting, created):
        decided = decide(there, record_label(), LATER)
        assert decided.record is there
        assert decided.history == [
            RecallOpened(
                shipment_id=SHIPMENT, purchase=0, tracking_number=LABEL.tracking_number, time=LATER
            )
        ]
        assert not decided.facts


def test_same_parcels_of_a_newer_version_change_nothing() -> None:
    """Only their version is stored."""
    decided = decide(
        shipment("pending", fulfillment_version=7), create_shipment(fulfillment_version=10), LATER
    )
    assert decided.record == shipment("pending", fulfillment_version=10)
    assert not decided.history


@pytest.mark.parametrize(
    "other", [{"order_id": FULFILLMENT}, {"attempt": 2}, {"warehouse_id": "W2"}]
)
def test_request_for_other_orders_fulfilment_is_refused(other: dict[str, Any]) -> None:
    """A fulfilment belongs to one order, attempt and warehouse: a request that names it with
    another one is refused.
    """
    with pytest.raises(Exists) as refused:
        decide(shipment("created"), create_shipment(**other), LATER)
    assert (refused.value.reason, refused.value.metadata) == (
        "SHIPMENT_ALREADY_EXISTS",
        {"shipment_id": str(SHIPMENT)},
    )


def test_label_creates_the_shipment() -> None:
    """pending -> created with the tracking number, one version, one row of history, the label, and
    one ShipmentCreated.
    """
    decided = decide(shipment("pending"), record_label(), LATER)
    assert decided.record == shipment("created", reason="LABEL_BOUGHT", update_time=LATER)
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.CREATED,
            reason="LABEL_BOUGHT",
            actor="shipping",
            cause="c1",
            time=LATER,
        ),
        BoughtLabel(SHIPMENT, LABEL),
    ]
    assert decided.facts == [Created(decided.record, as_step(decided.history[0]))]


def test_refused_label_fails_the_shipment() -> None:
    """pending -> failed with the carrier's code, and an event."""
    decided = decide(shipment("pending"), fail_label(), LATER)
    assert decided.record == shipment(
        "failed", reason="CARRIER_REFUSED", carrier_code="NO_SUCH_PLACE", update_time=LATER
    )
    assert [type(row) for row in decided.history] == [Transition]
    assert decided.facts == [StatusChanged(decided.record, as_step(decided.history[0]))]


def test_refusal_of_replaced_parcels_changes_nothing() -> None:
    """Parcels that replaced the refused ones are still to be offered to the carrier."""
    there = shipment("pending", purchase=1)
    assert decide(there, fail_label(purchase=0), LATER).record is there
    assert decide(there, fail_label(purchase=1), LATER).record.status is Status.FAILED


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
@pytest.mark.parametrize("command", [record_label(), fail_label()], ids=["keep_label", "give_up"])
def test_second_settlement_of_a_label_changes_nothing(
    status: Status, command: Envelope[Any]
) -> None:
    """A second settlement of the same label changes nothing; a label that was sold for a failed
    shipment is recalled.
    """
    there = shipment(status)
    decided = decide(there, command, LATER)
    assert decided.record is there
    is_stray = status is Status.FAILED and isinstance(command.command, RecordLabel)
    assert list(decided.history) == (
        [
            RecallOpened(
                shipment_id=SHIPMENT, purchase=0, tracking_number="SBX0000000001", time=LATER
            )
        ]
        if is_stray
        else []
    )
    assert not decided.facts


@pytest.mark.parametrize(
    "command",
    [
        record_label(),
        fail_label(),
        report("delivered"),
        cancel_shipment(),
        close_shipment(),
        record_recall_answer(),
    ],
    ids=lambda each: type(each.command).__name__,
)
def test_command_about_an_unknown_shipment_is_refused(command: Envelope[Any]) -> None:
    """Every command but CreateShipment needs a shipment."""
    with pytest.raises(NotFound) as refused:
        decide(None, command, NOON)
    assert refused.value.reason == "SHIPMENT_NOT_FOUND"


@pytest.mark.parametrize("here", sorted(LABELLED))
@pytest.mark.parametrize("there", sorted(REPORTABLE))
def test_each_report_in_each_status(here: Status, there: Status) -> None:
    """A later report is always recorded. If its status is further, it moves the shipment by one
    version and one row, else it moves nothing. For a void label it is a contradiction.
    """
    before = shipment(here)
    decided = decide(before, report(there, minute=30), LATER)
    after = decided.record
    assert decided.history[0] == TrackingEvent(
        SHIPMENT, report(there, minute=30).command.report, LATER
    )
    if here is Status.VOIDED:
        contradicted = replace(
            before,
            version=5,
            update_time=LATER,
            reason="REPORTED_AFTER_VOID",
            contradict_time=LATER,
        )
        assert replace(after, recorded_reports=frozenset()) == contradicted
        cause = f"{there}@30"
        assert decided.history[1:] == [
            Transition(
                shipment_id=SHIPMENT,
                version=5,
                old=here,
                new=here,
                reason="REPORTED_AFTER_VOID",
                actor="carrier",
                cause=cause,
                time=LATER,
            )
        ]
        assert decided.facts == [StatusChanged(after, as_step(decided.history[1]))]
        again = decide(after, report(there, minute=40), LATER)
        assert (again.record.version, len(again.history), again.facts) == (5, 1, [])
        return
    moves = here not in TERMINAL and here is not there and STAGE[there] >= STAGE[here]
    assert (after.status, after.version) == (
        (there, before.version + 1) if moves else (here, before.version)
    )
    if moves:
        cause = f"{there}@30"
        assert decided.history[1:] == [
            Transition(
                shipment_id=SHIPMENT,
                version=after.version,
                old=here,
                new=there,
                reason="CARRIER_REPORTED",
                actor="carrier",
                cause=cause,
                time=LATER,
            )
        ]
        assert (after.reason, after.update_time) == ("CARRIER_REPORTED", LATER)
        step = as_step(decided.history[1])
        assert decided.facts[0] == StatusChanged(after, step)
        assert decided.facts[1:] == ([Delivered(after, step)] if there is Status.DELIVERED else [])
        assert there in MOVES[here]
    else:
        assert not decided.history[1:]
        assert not decided.facts
        assert after.update_time == before.update_time


def test_delivery_has_the_time_of_the_carrier() -> None:
    """The time of delivery is the carrier's, not the time of the record."""
    assert decide(
        shipment("created"), report("delivered", minute=7), LATER
    ).record.deliver_time == NOON + timedelta(minutes=7)


@pytest.mark.parametrize("here", sorted(LABELLED))
def test_repeated_report_is_skipped(here: Status) -> None:
    """A recorded report is skipped, also with another content."""
    there = shipment(here, recorded_reports=frozenset({"r1"}))
    decided = decide(there, report("delivered", minute=90, carrier_event_id="r1"), LATER)
    assert decided.record is there
    assert not decided.history


def test_repeated_report_within_a_set_is_skipped() -> None:
    """The second command of a set sees the records of the first."""
    first = decide(shipment("created"), report("in_transit", carrier_event_id="r1"), LATER)
    second = decide(first.record, report("in_transit", carrier_event_id="r1"), LATER)
    assert second.record is first.record


def test_second_delivery_attempt_has_its_own_time() -> None:
    """A failure with an earlier time is not that of the present delivery attempt, although it is
    recorded later.
    """
    out = decide(shipment("out_for_delivery"), report("out_for_delivery", minute=60), LATER).record
    assert (out.status, out.version) == (Status.OUT_FOR_DELIVERY, 3)
    assert (
        decide(out, report("delivery_failed", minute=30), LATER).record.status
        is Status.OUT_FOR_DELIVERY
    )
    assert (
        decide(out, report("delivery_failed", minute=90), LATER).record.status
        is Status.DELIVERY_FAILED
    )


@pytest.mark.parametrize(
    ("here", "reported"),
    [("pending", "in_transit"), ("failed", "delivered"), ("in_transit", "created")],
)
def test_impossible_report_is_refused(here: str, reported: str) -> None:
    """No report is accepted without a label, and none of the initial status. The refusal lists the
    allowed statuses.
    """
    with pytest.raises(Refused) as refused:
        decide(shipment(here), report(reported), LATER)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert refused.value.metadata == {
        "status": here,
        "allowed": ", ".join(sorted(MOVES[Status(here)])),
    }


def test_failed_shipment_has_the_reason_of_its_refusal() -> None:
    """A failed shipment has a refusal with its reason; every other shipment has none."""
    by_carrier = refusal(decide(shipment("pending"), fail_label(), LATER).record)
    assert by_carrier is not None
    assert by_carrier.reason == "CARRIER_REFUSED"
    assert by_carrier.metadata == {
        "carrier": "sandbox",
        "carrier_code": "NO_SUCH_PLACE",
        "shipment_id": str(SHIPMENT),
    }
    by_order = refusal(
        decide(shipment("pending"), fail_label(Reason.ORDER_CLOSED, None), LATER).record
    )
    assert by_order is not None
    assert (by_order.reason, by_order.metadata) == ("ORDER_CLOSED", {"order_id": str(ORDER)})
    by_hand = refusal(decide(shipment("pending"), cancel_shipment(), LATER).record)
    assert by_hand is not None
    assert (by_hand.reason, by_hand.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "failed", "allowed": ""},
    )
    assert [refusal(shipment(status)) for status in set(Status) - {Status.FAILED}] == [None] * (
        len(Status) - 1
    )


def test_latest_closed_attempt_of_order_is_stored() -> None:
    """For every order of the events the latest closed attempt is stored; a repeat changes
    nothing.
    """
    first = envelope(CloseOrder, target=ORDER, attempt=1, status="failed", version=4)
    last = changed(first, attempt=2, status="cancelled", version=9)
    for ways in ([first, last], [last, first], [last, first, last]):
        order = None
        for command in ways:
            order = decide_order(order, command, NOON).record
        assert order == ClosedOrder(
            order_id=ORDER, attempt=2, status="cancelled", version=9, close_time=NOON
        )


@pytest.mark.parametrize(
    ("closed_attempt", "attempt", "is_expected"),
    [(None, 1, False), (1, 1, True), (2, 1, True), (1, 2, False)],
)
def test_order_is_closed_per_attempt(
    closed_attempt: int | None, attempt: int, is_expected: bool
) -> None:
    """A closed attempt and the earlier ones are not shipped; a later one is."""
    order = (
        ClosedOrder(
            order_id=ORDER, attempt=closed_attempt, status="failed", version=4, close_time=NOON
        )
        if closed_attempt
        else None
    )
    assert is_closed(order, attempt) is is_expected


def test_second_request_with_other_parcels_changes_none() -> None:
    """The label is bought for the parcels of the first request."""
    assert (
        decide(shipment("pending"), create_shipment(parcels=PARCELS[:1]), LATER).record.parcels
        == PARCELS
    )


# --- recalls

RECALLS = [
    (cancel_shipment(), "RECALLED", "staff", "q1"),
    (close_shipment(), "ORDER_CLOSED", "order", "e9"),
]
CLOSED = fail_label(Reason.ORDER_CLOSED, None, purchase=None)


@pytest.mark.parametrize(("command", "reason", "actor", "cause"), RECALLS, ids=["cancel", "close"])
@pytest.mark.parametrize("here", sorted(set(Status) - TERMINAL - {Status.PENDING}))
def test_recall_of_labelled_shipment_keeps_status(
    here: Status, command: Envelope[Any], reason: str, actor: str, cause: str
) -> None:
    """In every status in which the carrier has the label: recall_time, one version, one row and one
    event at once, and the carrier is to be asked.
    """
    before = shipment(here)
    decided = decide(before, command, LATER)
    after = decided.record
    assert after == replace(
        before, recall_time=LATER, reason=reason, version=before.version + 1, update_time=LATER
    )
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=after.version,
            old=here,
            new=here,
            reason=reason,
            actor=actor,
            cause=cause,
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number="SBX0000000001", time=LATER),
    ]
    assert decided.facts == [StatusChanged(after, as_step(decided.history[0]))]
    for again in (command, cancel_shipment(), close_shipment()):
        twice = decide(after, again, LATER + timedelta(hours=1))
        assert twice.record is after
        assert not twice.history
        assert not twice.facts


@pytest.mark.parametrize(
    ("command", "reason", "actor", "cause"),
    [*RECALLS, (CLOSED, "ORDER_CLOSED", "shipping", "c1")],
    ids=["cancel", "close", "closed"],
)
def test_recall_before_the_label_fails_the_shipment(
    command: Envelope[Any], reason: str, actor: str, cause: str
) -> None:
    """pending -> failed, with an event. The sale's answer may be lost or late: a label that may
    have been sold is recalled.
    """
    decided = decide(shipment("pending"), command, LATER)
    assert decided.record == shipment("failed", reason=reason, update_time=LATER)
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.FAILED,
            reason=reason,
            actor=actor,
            cause=cause,
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER),
    ]
    assert decided.facts == [StatusChanged(decided.record, as_step(decided.history[0]))]


@pytest.mark.parametrize("here", sorted(TERMINAL))
def test_recall_of_a_terminal_shipment_is_refused(here: Status) -> None:
    """The caller gets a refusal; the closing of the order changes nothing."""
    there = shipment(here)
    with pytest.raises(Refused) as refused:
        decide(there, cancel_shipment(), LATER)
    assert (refused.value.reason, refused.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": here, "allowed": ""},
    )
    decided = decide(there, close_shipment(), LATER)
    assert decided.record is there
    assert not decided.history
    assert not decided.facts


def test_cancel_with_other_version_is_refused() -> None:
    """A stated version must be the shipment's, also for a terminal or recalled one."""
    for there in (
        shipment("in_transit"),
        shipment("delivered"),
        shipment("in_transit", recall_time=NOON),
    ):
        with pytest.raises(Stale) as stale:
            decide(there, cancel_shipment(expected_version=2), LATER)
        assert stale.value.metadata == {"expected": "2", "actual": "3"}
    assert (
        decide(
            shipment("in_transit"), cancel_shipment(expected_version=3), LATER
        ).record.recall_time
        == LATER
    )


@pytest.mark.parametrize("answer", RecallAnswer)
@pytest.mark.parametrize("here", sorted(set(Status) - {Status.PENDING}))
def test_each_answer_to_a_recall_in_each_status(here: Status, answer: RecallAnswer) -> None:
    """Void ends a shipment that waits for its carrier, for the reason of its recall; otherwise
    reports decide. The recall closes, unless the carrier does not stop parcels that were recalled
    since.
    """
    before = shipment(
        here, reason="ORDER_CLOSED", recall_time=None if here is Status.FAILED else NOON
    )
    decided = decide(before, record_recall_answer(answer), LATER)
    after = decided.record
    if here is Status.CREATED and answer is RecallAnswer.TOO_LATE:
        assert (after, len(decided.history), len(decided.facts)) == (before, 0, 0)
        return
    assert decided.history[-1] == RecallClosed(SHIPMENT, 0, None)
    if here is Status.CREATED and answer is RecallAnswer.VOIDED:
        assert after == replace(before, status=Status.VOIDED, version=3, update_time=LATER)
        assert decided.history[:-1] == [
            Transition(
                shipment_id=SHIPMENT,
                version=3,
                old=here,
                new=Status.VOIDED,
                reason="ORDER_CLOSED",
                actor="carrier",
                cause="r1",
                time=LATER,
            )
        ]
        assert decided.facts == [StatusChanged(after, as_step(decided.history[0]))]
    else:
        assert after is before
        assert len(decided.history) == 1
        assert not decided.facts


def status_changes(decided: ShipmentDecision) -> list[tuple[Status, str]]:
    """Returns the status and the reason of each published change."""
    return [
        (fact.shipment.status, fact.shipment.reason)
        for fact in decided.facts
        if isinstance(fact, StatusChanged)
    ]


@pytest.mark.parametrize("here", Status)
def test_withdrawal_in_each_status_has_an_answer(here: Status) -> None:
    """No label is bought any more. A sold one is voided at the carrier, without bringing back
    parcels in transit. A known answer is published at once. A repeat changes nothing.
    """
    before = shipment(here)
    decided = decide(before, withdraw_shipment(), LATER)
    after = decided.record
    assert (after.withdraw_version, after.recall_time) == (8, before.recall_time)
    assert after.version == before.version + 1
    changes = status_changes(decided)
    recall = RecallOpened(
        shipment_id=SHIPMENT,
        purchase=0,
        tracking_number=after.tracking_number,
        time=LATER,
        bring_back=here is Status.PENDING,
    )
    if here is Status.PENDING:
        assert (changes, decided.history[1:]) == (
            [(Status.FAILED, "FULFILLMENT_WITHDRAWN")],
            [recall],
        )
    elif here is Status.CREATED:
        assert (changes, decided.history[1:], after.reason) == (
            [],
            [recall],
            "FULFILLMENT_WITHDRAWN",
        )
    else:
        has_left = here not in (Status.FAILED, Status.VOIDED)
        assert changes == [(here, "WITHDRAWAL_TOO_LATE" if has_left else "FULFILLMENT_WITHDRAWN")]
        assert len(decided.history) == 1
    assert decide(after, withdraw_shipment(), LATER).record is after


@pytest.mark.parametrize("answer", RecallAnswer)
@pytest.mark.parametrize("recalled", [False, True])
def test_each_answer_to_withdrawal_is_published(answer: RecallAnswer, recalled: bool) -> None:
    """The answer is void, or too late. If the parcels were recalled since, only an answer to that
    recall counts.
    """
    before = shipment(
        "created",
        withdraw_version=8,
        reason="FULFILLMENT_WITHDRAWN",
        recall_time=NOON if recalled else None,
    )
    decided = decide(before, record_recall_answer(answer), LATER)
    changes = status_changes(decided)
    if recalled and answer is RecallAnswer.TOO_LATE:
        assert (decided.record, len(decided.history), changes) == (before, 0, [])
        return
    assert decided.history[-1] == RecallClosed(SHIPMENT, 0, None)
    void = answer is RecallAnswer.VOIDED
    assert changes == [
        (Status.VOIDED, "FULFILLMENT_WITHDRAWN")
        if void
        else (Status.CREATED, "WITHDRAWAL_TOO_LATE")
    ]


def test_withdrawn_shipment_has_a_successor() -> None:
    """Only a withdrawn shipment that does not leave has a successor, for parcels that were ready
    afterwards.
    """
    for here in Status:
        record = shipment(here, withdraw_version=8)
        for version, later in ((7, False), (8, False), (9, True)):
            assert record.is_followed_by(shipment_request(fulfillment_version=version)) == (
                later and here in (Status.FAILED, Status.VOIDED)
            )
        assert not shipment(here).is_followed_by(shipment_request(fulfillment_version=9))


def test_void_label_of_an_older_purchase_ends_nothing() -> None:
    """The shipment waits for its carrier with the label of a newer purchase."""
    there = shipment("created", purchase=1, reason="RECALLED", recall_time=NOON)
    decided = decide(there, record_recall_answer(), LATER)
    assert decided.record is there
    assert decided.history == [RecallClosed(SHIPMENT, 0, None)]


@pytest.mark.parametrize("there", sorted(REPORTABLE))
def test_report_moves_a_recalled_shipment(there: Status) -> None:
    """Reports move it like any other, also to delivered. At an end its recall is closed."""
    recalled = shipment("created", recall_time=NOON, reason="RECALLED", version=3)
    decided = decide(recalled, report(there), LATER)
    assert (decided.record.status, decided.record.version, decided.record.recall_time) == (
        there,
        4,
        NOON,
    )
    assert decided.facts[0] == StatusChanged(decided.record, as_step(decided.history[1]))
    assert (RecallClosed(SHIPMENT, 0, LABEL.tracking_number) in decided.history) == (
        there in TERMINAL
    )


def test_label_with_number_in_use_fails_shipment() -> None:
    """Another live shipment of the carrier has the label's tracking number. The shipment is failed
    with a reason for repeats, without the number, and the label is returned by its purchase.
    Another number of that carrier is accepted.
    """
    before = shipment("pending", tracking_number_holders={LABEL.tracking_number: ORDER})
    decided = decide(before, record_label(), LATER)
    assert (decided.record.status, decided.record.reason) == (
        Status.FAILED,
        "TRACKING_NUMBER_IN_USE",
    )
    assert decided.record.tracking_number is None
    assert (
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER)
        in decided.history
    )
    refused = refusal(decided.record)
    assert refused
    assert (refused.reason, refused.metadata["shipment_id"]) == (
        "TRACKING_NUMBER_IN_USE",
        str(SHIPMENT),
    )
    other = replace(LABEL, tracking_number="SBX9")
    assert decide(before, record_label(label=other), LATER).record.status is Status.CREATED


@pytest.mark.parametrize("known", [True, False])
def test_forged_version_is_refused(known: bool) -> None:
    """A version of 2^60 of a fulfilment, of its withdrawal or of a closed order is not stored, with
    and without a stored one.
    """
    is_closed = (
        ClosedOrder(order_id=ORDER, attempt=1, status="cancelled", version=4, close_time=NOON)
        if known
        else None
    )
    order_closing = envelope(CloseOrder, target=ORDER, attempt=1, status="cancelled", version=2**60)
    fulfillment_closing = envelope(CloseFulfillment, target=FULFILLMENT, version=2**60)
    refused: list[Callable[[], object]] = [
        lambda: decide(
            shipment() if known else None, create_shipment(fulfillment_version=2**60), NOON
        ),
        lambda: decide(
            shipment("created") if known else shipment(), withdraw_shipment(version=2**60), NOON
        ),
        lambda: decide_order(is_closed, order_closing, NOON),
        lambda: decide_fulfillment(
            ClosedFulfillment(FULFILLMENT, 4, NOON) if known else None, fulfillment_closing, NOON
        ),
    ]
    for attempt in refused:
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.reason == "VERSION_JUMP"


def test_first_event_of_a_fulfilment_may_have_a_high_version() -> None:
    """Each scan raises a fulfilment's version without an event: the first event may have version
    10,001.
    """
    assert (
        decide(None, create_shipment(fulfillment_version=10_001), NOON).record.fulfillment_version
        == 10_001
    )
    fulfillment_closing = envelope(CloseFulfillment, target=FULFILLMENT, version=10_001)
    assert decide_fulfillment(None, fulfillment_closing, NOON).record.version == 10_001


@pytest.mark.parametrize(("version", "refused"), [(10_009, False), (10_010, True), (2**60, True)])
def test_successor_is_compared_with_its_predecessor(version: int, refused: bool) -> None:
    """The shipment after a withdrawn one may state a version up to 10,000 above the last one."""
    again = changed(create_shipment(fulfillment_version=version), stored_version=9)
    if not refused:
        assert decide(None, again, NOON).record.fulfillment_version == version
        return
    with pytest.raises(Refused) as caught:
        decide(None, again, NOON)
    assert (caught.value.reason, caught.value.metadata["stored"]) == ("VERSION_JUMP", "9")
