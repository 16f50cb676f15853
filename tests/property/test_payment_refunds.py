"""An order's money under any events, in any order, repeated at will: money that the order does not
cost is refunded once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import (
    CLOSED,
    MOVES,
    OPEN,
    REVERSALS,
    Cause,
    Kind,
    Outcome,
    Status,
)
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    Answer,
    Declined,
    Pending,
    Succeeded,
)
from payment_svc.model.events import RefundSettled
from payment_svc.model.records import Account, Operation, Order, Payment, Transition
from tests.unit.payment.samples import (
    NOON,
    TOTAL,
    OrderStatus,
    apply_order,
    capture,
    changed,
    create,
    numbered,
    operation,
    order,
    own,
    payment,
    record_unknown,
    refund,
    retry_lookup,
    returned,
    settle,
    void,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step whose target is chosen when it is applied: the `which`th of the existing records."""

    kind: str
    which: int = 0
    minor: int | None = None
    answer: Answer | None = None
    manual: bool = False


@dataclass(frozen=True)
class Story:
    """An order's life, version by version, which the account consumes in any order, and all
    operations on its money meanwhile.
    """

    life: tuple[Order, ...]
    steps: tuple[Step, ...]


@st.composite
def lives(draw: st.DrawFn) -> tuple[Order, ...]:
    """The order is placed; units are cancelled (the total falls); it is paid and shipped; it is
    cancelled, or failed and retried at its cost by then.
    """
    versions, attempt, total = [order()], 1, TOTAL.minor
    for version in range(2, draw(st.integers(2, 7))):
        status = draw(
            st.sampled_from(
                [
                    OrderStatus.PENDING,
                    OrderStatus.CONFIRMED,
                    OrderStatus.FAILED,
                    OrderStatus.CANCELLED,
                ]
            )
        )
        total = draw(st.sampled_from([total, total, total - 250, total // 2]))
        attempt += versions[-1].status == OrderStatus.FAILED
        versions.append(
            order(
                version=version,
                status=status,
                attempt=attempt,
                total=Money(max(total, 0), TOTAL.currency),
            )
        )
        if status == OrderStatus.CANCELLED:
            break
    return tuple(versions)


KINDS = [
    "note",
    "note",
    "create",
    "capture",
    "void",
    "refund",
    "return",
    "settle",
    "settle",
    "settle",
    "lose",
    "ask",
]
steps = st.builds(
    Step,
    kind=st.sampled_from(KINDS),
    which=st.integers(0, 8),
    minor=st.sampled_from([None, 1, 250, 1_000, 4_000, 4_250, 9_999]),
    answer=st.sampled_from(
        [
            Succeeded(""),
            Succeeded(""),
            Pending(""),
            Declined("card_closed"),
            Declined(AUTHORIZATION_EXPIRED),
        ]
    ),
    manual=st.booleans(),
)
# A payment that is made and captured stands at the start of most of them: without it there is no
# money to give back.
paid = [
    Step(kind="note"),
    Step(kind="create", which=0),
    Step(kind="settle", which=0, answer=Succeeded("")),
]
held = [
    *paid,
    Step(kind="refund", minor=1_000),
    Step(kind="note", which=8),
    Step(kind="note", which=7),
    Step(kind="settle", which=1, answer=Declined("card_closed")),
]
stories_of_refunds = st.builds(
    lambda life, before, after: Story(life, (*before, *after)),
    lives(),
    st.sampled_from([paid, held, []]),
    st.lists(steps, max_size=30),
)


class StoryRun:
    """An account after a story, with its published events."""

    def __init__(self, story: Story, *, stubborn: bool) -> None:
        """`stubborn`: the processor may refuse also what the order's own state requires to go
        back.
        """
        self.story, self.stubborn = story, stubborn
        self.account: Account | None = None
        self.history: list[Transition] = []
        self.events: list[object] = []
        self.minute = 0

    def apply(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            if command := self.command(step, number):
                self.do(command)

    def do(self, command: Envelope[Any]) -> None:
        self.minute += 1
        try:
            decided = decide(self.account, command, NOON + timedelta(minutes=self.minute))
        except Failure:
            return
        self.account = decided.record
        self.history += decided.history
        self.events += decided.events
        check_money(self.account)

    def command(self, step: Step, number: int) -> Envelope[Any] | None:
        known = self.story.life[step.which % len(self.story.life)]
        match step.kind:
            case "note":
                return changed(apply_order(number), order=known)
            case "create":
                return create(
                    number, order=known, manual_capture=step.manual, payment_id=numbered(2, number)
                )
            case "return":
                return returned(step.which, step.minor or 500, attempt=known.attempt)
        if self.account is None or not self.account.payments:
            return None
        payment = self.account.payments[step.which % len(self.account.payments)]
        match step.kind:
            case "capture":
                return capture(number, payment_id=payment.id, order=known if step.manual else None)
            case "void":
                return void(number, payment_id=payment.id)
            case "refund":
                return refund(number, step.minor, payment_id=payment.id)
        operations = [o for p in self.account.payments for o in p.operations]
        asked = operations[step.which % len(operations)] if operations else None
        if asked is None:
            return None
        if step.kind == "settle" and step.answer:
            return settle(self.possible(step.answer, asked), asked.id)
        return (
            record_unknown(asked.id) if step.kind == "lose" else retry_lookup(step.which, asked.id)
        )

    def possible(self, answer: Answer, asked: Operation) -> Answer:
        if isinstance(answer, Declined) and asked.cause is Cause.ORDER and not self.stubborn:
            return Succeeded(f"ref-{asked.id}")
        return own(answer, asked.id)

    def settle_everything(self) -> Account | None:
        """The account consumes the order's last event, and every processor reports success, until
        no operation is open.
        """
        self.do(changed(apply_order(0), order=self.story.life[-1]))
        while self.account and (
            pending := [o for p in self.account.payments for o in p.operations if o.outcome in OPEN]
        ):
            self.do(settle(Succeeded(f"ref-{pending[0].id}"), pending[0].id))
        return self.account


def check_money(account: Account) -> None:
    """Checks the invariants of an account."""
    for each in account.payments:
        assert min(each.refunded, each.refund_pending) >= 0
        assert (
            each.refunded + each.refund_pending <= each.captured <= each.authorized <= each.amount
        )
        refunds = [o for o in each.operations if o.kind is Kind.REFUND]
        assert each.refund_pending == sum(o.amount for o in refunds if o.outcome in OPEN)
        assert each.refunded == sum(o.amount for o in refunds if o.outcome is Outcome.SUCCEEDED)
        assert each.status is not Status.REFUNDED or each.refunded == each.captured
        causes = [(o.kind, o.cause, o.cause_id) for o in each.operations if o.kind in REVERSALS]
        assert len(causes) == len(set(causes))
        assert all(cause and cause_id for _, cause, cause_id in causes)
        assert sum(o.outcome in OPEN and o.kind is not Kind.REFUND for o in each.operations) <= 1


def by_order(payment: Payment, outcome: Outcome) -> int:
    return sum(
        o.amount
        for o in payment.operations
        if o.kind is Kind.REFUND and o.cause is Cause.ORDER and o.outcome is outcome
    )


@settings(max_examples=400, deadline=None)
@given(stories_of_refunds)
def test_money_that_the_order_does_not_cost_is_refunded(story: Story) -> None:
    """For events consumed in any order, lost, refused or requested in addition: once all is settled
    a closed order, and an attempt that was abandoned, keeps no money and no authorisation; an open
    one keeps its cost at most.
    """
    story_run = StoryRun(story, stubborn=False)
    story_run.apply(story.steps)
    account = story_run.settle_everything()
    assert account
    for each in account.payments:
        if account.order.status in CLOSED or each.attempt != account.order.attempt:
            assert each.status is not Status.AUTHORIZED
            assert each.refunded == each.captured
        if each.refundable:
            assert each.captured - by_order(each, Outcome.SUCCEEDED) <= account.amount_due(each)


@settings(max_examples=400, deadline=None)
@given(stories_of_refunds)
def test_each_cause_is_refunded_once(story: Story) -> None:
    """Each refund is published once, with amounts that only rise, and no failed request repeats
    for ever. This holds where the processor refuses anything, and where the whole story comes again
    after the keys were deleted.
    """
    story_run = StoryRun(story, stubborn=True)
    story_run.apply(story.steps)
    story_run.apply(story.steps)
    account = story_run.settle_everything()
    assert account
    settled = [event for event in story_run.events if isinstance(event, RefundSettled)]
    ids = [event.refund.id for event in settled]
    assert len(ids) == len(set(ids))
    refunds = [o for p in account.payments for o in p.operations if o.kind is Kind.REFUND]
    assert sorted(ids) == sorted(o.id for o in refunds)
    for each in account.payments:
        amounts = [event.payment.refunded for event in settled if event.payment.id == each.id]
        assert amounts == sorted(amounts)
        assert amounts[-1:] in ([], [each.refunded])
        transitions = [
            transition for transition in story_run.history if transition.payment_id == each.id
        ]
        assert [transition.version for transition in transitions] == list(
            range(1, each.version + 1)
        )
        assert all(c.old is None or c.new is c.old or c.new in MOVES[c.old] for c in transitions)


NEWS = (
    *(
        apply_order(version, version=version, total=Money(total, TOTAL.currency))
        for version, total in ((2, 4_000), (3, 3_000))
    ),
    apply_order(4, version=4, status=OrderStatus.CANCELLED),
)


@settings(max_examples=200, deadline=None)
@given(st.permutations([*NEWS, *NEWS, settle(Succeeded("ref-1"))]))
def test_events_and_answers_in_any_order_end_the_same(arriving: list[Envelope[Any]]) -> None:
    """Units cancelled, then all of it, while a charge is under way: each published twice, in every
    order, all is refunded in the end.
    """
    story_run = StoryRun(
        Story((order(version=4, status=OrderStatus.CANCELLED),), ()), stubborn=False
    )
    story_run.account = Account(order(), (payment(operations=(operation(),)),))
    for command in arriving:
        story_run.do(command)
    account = story_run.settle_everything()
    assert account
    assert [(p.status, p.captured, p.refunded) for p in account.payments] == [
        (Status.REFUNDED, TOTAL.minor, TOTAL.minor)
    ]
