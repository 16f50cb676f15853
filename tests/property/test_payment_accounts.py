"""An order's money under anything that may happen to it, in any order, repeated at will: nothing is charged or told twice."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import Failure
from chassis.money import Money
from payment_svc.decisions import DECLINES_MAX, decide
from payment_svc.lifecycle import CHARGED, MOVES, ONE_PER_ATTEMPT, OPEN, OrderStatus, Outcome, Status
from payment_svc.model import (
    METHOD_INVALID,
    NOT_PROCESSED,
    UNCOUNTED,
    Account,
    Answer,
    Awaited,
    CapturePayment,
    Change,
    Confirmed,
    CreatePayment,
    Declined,
    Failed,
    NoteOrder,
    PaymentCommand,
    Succeeded,
)
from tests.unit.payment.samples import NOON, TOTAL, ask, capture, create, lose, note, numbered, order, settle

ANSWERS: tuple[Answer, ...] = (
    Succeeded("ref"),
    Awaited("ref"),
    *(Declined(code) for code in ("insufficient_funds", NOT_PROCESSED, METHOD_INVALID)),
    Declined("stolen_card", final=True),
)
operation_ids = st.one_of(st.builds(numbered, st.just(3), st.integers(1, 6)), st.builds(numbered, st.just(3), st.integers(201, 204)))
FREE = replace(TOTAL, minor=0)


def orders_of(attempt: int, step: int) -> tuple[int, OrderStatus]:
    """A life of an order: each attempt pending, then failed, and tried again; its version and status at each step."""
    return 2 * attempt - 1 + step, (OrderStatus.PENDING, OrderStatus.FAILED)[step]


@st.composite
def commands(draw: st.DrawFn, total: Money) -> PaymentCommand:
    number = draw(st.integers(1, 6))
    attempt = draw(st.integers(1, 2))
    version, status = orders_of(attempt, draw(st.integers(0, 1)))
    known = order(version=version, attempt=attempt, status=status, total=total)
    kind = draw(st.sampled_from(["note", "create", "create", "capture", "settle", "settle", "settle", "lose", "ask"]))
    match kind:
        case "note":
            return replace(note(number), order=known)
        case "create":
            return create(number, order=draw(st.sampled_from([None, known])), manual_capture=draw(st.booleans()))
        case "capture":
            return capture(draw(st.integers(1, 4)))
        case "settle":
            answer, operation_id = draw(st.sampled_from(ANSWERS)), draw(operation_ids)
            return settle(own(answer, operation_id), operation_id)
        case "lose":
            return lose(draw(operation_ids))
    return ask(draw(st.integers(1, 3)), draw(operation_ids))


def own(answer: Answer, operation_id: UUID) -> Answer:
    """A processor gives each thing that it does a name of its own."""
    return answer if isinstance(answer, Declined) else replace(answer, reference=f"ref-{operation_id}")


stories = st.sampled_from([TOTAL, TOTAL, FREE]).flatmap(lambda total: st.lists(commands(total), max_size=40))


def run(told: list[PaymentCommand]) -> tuple[Account | None, list[Change], list[Confirmed | Failed]]:
    """What becomes of an account, with all that was written down and told on the way; what is refused changes nothing."""
    account: Account | None = None
    history: list[Change] = []
    facts: list[Confirmed | Failed] = []
    for minute, command in enumerate(told):
        try:
            decided = decide(account, placed(command, account, minute), NOON + timedelta(minutes=minute))
        except Failure:
            continue
        if decided.record is account:
            assert not decided.history
            assert not decided.facts
        account = decided.record
        history += decided.history
        facts += [fact for fact in decided.facts if isinstance(fact, (Confirmed, Failed))]
    return account, history, facts


def placed(command: PaymentCommand, account: Account | None, minute: int) -> PaymentCommand:
    """The command with what only its moment knows: an id that nobody else proposes, a payment that there is."""
    if isinstance(command, (NoteOrder, CreatePayment)):
        return replace(command, payment_id=numbered(2, minute))
    if isinstance(command, CapturePayment) and account and account.payments:
        return replace(command, payment_id=account.payments[command.operation_id.int % len(account.payments)].id)
    return command


@settings(max_examples=400, deadline=None)
@given(stories)
def test_money_is_charged_and_told_once_whatever_happens(told: list[PaymentCommand]) -> None:
    """For each attempt at most one payment that counts and one event; money inside its bounds; each step along the table, in the history,
    one version each; an operation settles once; the third decline is the last."""
    account, history, facts = run(told)
    if account is None:
        return

    counting = Counter(p.attempt for p in account.payments if p.status in ONE_PER_ATTEMPT)
    assert max(counting.values(), default=0) <= 1
    attempts = [fact.payment.attempt for fact in facts]
    assert len(attempts) == len(set(attempts))
    final = {Status.NOT_REQUIRED, Status.FAILED, *CHARGED}
    assert set(attempts) == {p.attempt for p in account.payments if p.status in final}

    for payment in account.payments:
        assert 0 <= payment.refunded <= payment.captured <= payment.authorized <= payment.amount == account.order.total.minor
        assert (payment.captured > 0) == (payment.status in CHARGED)
        assert sum(o.outcome in OPEN for o in payment.operations) <= 1
        assert all((o.ask_time is None) == (o.settle_time is not None) == (o.outcome not in OPEN) for o in payment.operations)
        steps = [change for change in history if change.payment_id == payment.id]
        assert [change.version for change in steps] == list(range(1, payment.version + 1))
        assert [change.old for change in steps] == [None, *(change.new for change in steps[:-1])]
        assert all(c.old is None or c.new is c.old or c.new in MOVES[c.old] for c in steps)
        assert steps[-1].new is payment.status

    settled = Counter(c.operation_id for c in history if c.outcome in (Outcome.SUCCEEDED, Outcome.FAILED))
    assert max(settled.values(), default=0) <= 1
    declines = Counter(p.attempt for p in account.payments if p.decline_code and p.decline_code not in UNCOUNTED)
    assert max(declines.values(), default=0) <= DECLINES_MAX
    asked_by = [o.requested_by for p in account.payments for o in p.operations]
    assert len(asked_by) == len(set(asked_by))


@settings(max_examples=200, deadline=None)
@given(stories)
def test_everything_again_changes_nothing_that_is_charged_or_told(told: list[PaymentCommand]) -> None:
    """The whole story delivered a second time, as after a lost claim table: no further money, and not one event more."""
    once, _, facts = run(told)
    twice, _, facts_twice = run([*told, *told])
    if once is None or twice is None:
        assert once is twice
        return
    charged = {p.id: p.captured for p in once.payments if p.captured}
    assert charged.items() <= {p.id: p.captured for p in twice.payments}.items()
    assert facts_twice[: len(facts)] == facts
    assert len({fact.payment.attempt for fact in facts_twice}) == len(facts_twice)
