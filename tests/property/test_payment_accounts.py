"""An order's money under any events, in any order, repeated at will: nothing is charged or
published twice.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.decisions.settlement import DECLINES_MAX
from payment_svc.lifecycle import (
    CHARGED,
    LIVE,
    MOVES,
    OPEN,
    Kind,
    Outcome,
    Reason,
    Status,
)
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    UNCOUNTED_CODES,
    Answer,
    Declined,
    Pending,
    Succeeded,
)
from payment_svc.model.commands import ApplyOrderVersion, CapturePayment, CreatePayment
from payment_svc.model.events import PaymentConfirmed, PaymentFailed
from payment_svc.model.records import Account, Transition
from tests.unit.payment.samples import (
    NOON,
    TOTAL,
    OrderStatus,
    apply_order,
    capture,
    changed,
    create,
    numbered,
    order,
    own,
    record_unknown,
    retry_lookup,
    settle,
)

ANSWERS: tuple[Answer, ...] = (
    Succeeded("ref"),
    Pending("ref"),
    *(
        Declined(code)
        for code in ("insufficient_funds", NOT_PROCESSED, METHOD_INVALID, AUTHORIZATION_EXPIRED)
    ),
    Declined("stolen_card", final=True),
)
operation_ids = st.one_of(
    st.builds(numbered, st.just(3), st.integers(1, 6)),
    st.builds(numbered, st.just(3), st.integers(201, 204)),
)
FREE = replace(TOTAL, minor=0)


def orders_of(attempt: int, step: int) -> tuple[int, OrderStatus]:
    """A life of an order: each attempt pending, then failed, and tried again; its version and
    status at each step.
    """
    return 2 * attempt - 1 + step, (OrderStatus.PENDING, OrderStatus.FAILED)[step]


@st.composite
def commands(draw: st.DrawFn, total: Money) -> Envelope[Any]:
    number = draw(st.integers(1, 6))
    attempt = draw(st.integers(1, 2))
    version, status = orders_of(attempt, draw(st.integers(0, 1)))
    known = order(version=version, attempt=attempt, status=status, total=total)
    kind = draw(
        st.sampled_from(
            ["note", "create", "create", "capture", "settle", "settle", "settle", "lose", "ask"]
        )
    )
    match kind:
        case "note":
            return changed(apply_order(number), order=known)
        case "create":
            return create(
                number,
                order=draw(st.sampled_from([None, known])),
                manual_capture=draw(st.booleans()),
            )
        case "capture":
            return capture(draw(st.integers(1, 4)))
        case "settle":
            answer, operation_id = draw(st.sampled_from(ANSWERS)), draw(operation_ids)
            return settle(own(answer, operation_id), operation_id)
        case "lose":
            return record_unknown(draw(operation_ids))
    return retry_lookup(draw(st.integers(1, 3)), draw(operation_ids))


stories = st.sampled_from([TOTAL, TOTAL, FREE]).flatmap(
    lambda total: st.lists(commands(total), max_size=40)
)


def run(
    story: list[Envelope[Any]],
) -> tuple[Account | None, list[Transition], list[PaymentConfirmed | PaymentFailed]]:
    """Returns the account after the story, with all written rows and published events; a refused
    command changes nothing.
    """
    account: Account | None = None
    history: list[Transition] = []
    events: list[PaymentConfirmed | PaymentFailed] = []
    for minute, command in enumerate(story):
        try:
            decided = decide(
                account, placed(command, account, minute), NOON + timedelta(minutes=minute)
            )
        except Failure:
            continue
        if decided.record is account:
            assert not decided.history
            assert not decided.events
        account = decided.record
        history += decided.history
        events += [
            event
            for event in decided.events
            if isinstance(event, (PaymentConfirmed, PaymentFailed))
        ]
    return account, history, events


def placed(command: Envelope[Any], account: Account | None, minute: int) -> Envelope[Any]:
    """Returns the command with the values of its moment: a new id, and an existing payment."""
    content = command.command
    if isinstance(content, (ApplyOrderVersion, CreatePayment)):
        return changed(command, payment_id=numbered(2, minute))
    if isinstance(content, CapturePayment) and account and account.payments:
        which = content.operation.id.int % len(account.payments)
        return changed(command, payment_id=account.payments[which].id)
    return command


@settings(max_examples=400, deadline=None)
@given(stories)
def test_money_is_charged_and_published_once_in_any_story(story: list[Envelope[Any]]) -> None:
    """For each attempt at most one payment that counts and one event; money inside its bounds;
    each step along the table, in the history, one version each; an operation settles once; the
    third decline is the last.
    """
    account, history, events = run(story)
    if account is None:
        return

    counting = Counter(p.attempt for p in account.payments if p.status in LIVE)
    assert max(counting.values(), default=0) <= 1
    attempts = [event.payment.attempt for event in events]
    assert len(attempts) == len(set(attempts))
    final = {Status.NOT_REQUIRED, Status.FAILED, *CHARGED}
    assert set(attempts) == {p.attempt for p in account.payments if p.status in final}

    for payment in account.payments:
        assert (
            0
            <= payment.refunded
            <= payment.captured
            <= payment.authorized
            <= payment.amount
            == account.order.total.minor
        )
        assert (payment.captured > 0) == (payment.status in CHARGED)
        assert sum(o.outcome in OPEN and o.kind is not Kind.REFUND for o in payment.operations) <= 1
        assert all(
            (o.next_lookup_time is None) == (o.settle_time is not None) == (o.outcome not in OPEN)
            for o in payment.operations
        )
        rows = [row for row in history if row.payment_id == payment.id]
        assert [row.version for row in rows] == list(range(1, payment.version + 1))
        assert [row.old for row in rows] == [None, *(row.new for row in rows[:-1])]
        assert all(c.old is None or c.new is c.old or c.new in MOVES[c.old] for c in rows)
        assert rows[-1].new is payment.status

    settled = Counter(
        c.operation_id
        for c in history
        if c.outcome in (Outcome.SUCCEEDED, Outcome.FAILED) and c.reason != Reason.CONTRADICTED
    )
    assert max(settled.values(), default=0) <= 1
    declines = Counter(
        p.attempt
        for p in account.payments
        if p.decline_code and p.decline_code not in UNCOUNTED_CODES
    )
    assert max(declines.values(), default=0) <= DECLINES_MAX
    asked_by = [o.requested_by for p in account.payments for o in p.operations]
    assert len(asked_by) == len(set(asked_by))


@settings(max_examples=200, deadline=None)
@given(stories)
def test_repeated_story_charges_and_publishes_nothing_more(
    story: list[Envelope[Any]],
) -> None:
    """The whole story delivered a second time, as after a lost table of keys: no further money,
    and not one event more.
    """
    once, _, events = run(story)
    twice, _, events_twice = run([*story, *story])
    if once is None or twice is None:
        assert once is twice
        return
    charged = {p.id: p.captured for p in once.payments if p.captured}
    assert charged.items() <= {p.id: p.captured for p in twice.payments}.items()
    assert events_twice[: len(events)] == events
    assert len({event.payment.attempt for event in events_twice}) == len(events_twice)
