"""A payment's answer is bounded, and has the operations that an operator needs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.values.paging import ANSWER_BYTES_MAX
from payment_svc.decisions.contradictions import CONTRADICTIONS_MAX as OF_OPERATION_MAX
from payment_svc.lifecycle import Cause, Kind, Outcome, Status
from payment_svc.model.excerpt import CONTRADICTIONS_MAX, OPERATIONS_MAX, excerpt
from payment_svc.model.records import Contradiction, Operation
from payment_svc.providers.port import TEXT_MAX
from payment_svc.wire import responses
from tests.unit.payment.samples import LATER, NOON, numbered, operation, payment, refund_operation

# Four bytes a character.
WIDE = "\N{PARTY POPPER}"


def contradiction(number: int, *, resolved: bool = False, text: str = "x") -> Contradiction:
    """Returns the report of that number against an operation."""
    return Contradiction(
        id=numbered(9, number),
        outcome=Outcome.FAILED,
        reference=text,
        failure_code=text,
        report_id=text,
        payload_sha256=bytes(32),
        report_time=NOON + timedelta(seconds=number),
        resolve_time=LATER if resolved else None,
        resolve_note=WIDE * 500 if resolved else None,
    )


def refunds(count: int, outcome: Outcome = Outcome.SUCCEEDED) -> list[Operation]:
    """Returns the refunds of so many cents, oldest first."""
    return [
        refund_operation(1, outcome, cause=Cause.ORDER, cause_id=f"version:{n}")
        for n in range(count)
    ]


def wide_operation(number: int) -> Operation:
    """Returns a refund with the longest texts and the most stored contradictions."""
    first = number * OF_OPERATION_MAX
    text = WIDE * TEXT_MAX
    reports = [
        contradiction(n, resolved=True, text=text) for n in range(first, first + OF_OPERATION_MAX)
    ]
    refund = refund_operation(
        10**17, Outcome.FAILED, cause=Cause.ORDER, cause_id=f"version:{number}"
    )
    return replace(refund, reference=text, failure_code=text, contradictions=tuple(reports))


def test_widest_payment_fits_into_an_answer() -> None:
    """With more of the widest operations than an answer holds, the answer is less than half of its
    limit.
    """
    text = WIDE * TEXT_MAX
    declined, charged, refunded, *more = (wide_operation(n) for n in range(OPERATIONS_MAX + 1))
    operations = (
        replace(declined, kind=Kind.AUTHORIZE),
        replace(charged, kind=Kind.CHARGE, outcome=Outcome.SUCCEEDED),
        replace(refunded, outcome=Outcome.SUCCEEDED),
        *more,
    )
    widest = payment(
        Status.PARTIALLY_REFUNDED, operations=operations, amount=10**17, processor=text
    )
    assert (widest.authorized, widest.captured, widest.refunded) == (10**17,) * 3
    assert widest.decline_code == text
    answer = responses.payment(widest)
    assert len(answer.operations) == OPERATIONS_MAX
    assert sum(len(each.contradictions) for each in answer.operations) == CONTRADICTIONS_MAX
    assert answer.ByteSize() < ANSWER_BYTES_MAX // 2


def test_many_refunds_leave_the_newest_in_the_answer() -> None:
    """Of 34,000 refunds, the answer has the newest, oldest first, and the charge."""
    charge, answered = operation(Outcome.SUCCEEDED), refunds(34_000)
    assert excerpt([charge, *answered]) == [charge, *answered[1 - OPERATIONS_MAX :]]


@pytest.mark.parametrize("count", [0, 1, OPERATIONS_MAX])
def test_few_operations_are_all_in_the_answer(count: int) -> None:
    """Below the bound the answer has all operations and contradictions."""
    operations = [
        replace(each, contradictions=(contradiction(n),)) if n < CONTRADICTIONS_MAX else each
        for n, each in enumerate(refunds(count))
    ]
    assert excerpt(operations) == operations


def test_unresolved_contradiction_stays_in_the_answer() -> None:
    """The answer has the contradiction of the oldest refund, behind more resolved contradictions
    and open refunds than fit.
    """
    contradictions = replace(refunds(1)[0], contradictions=(contradiction(0),))
    resolved = tuple(contradiction(n, resolved=True) for n in range(1, CONTRADICTIONS_MAX + 1))
    done = replace(operation(Outcome.SUCCEEDED), contradictions=resolved)
    shown = excerpt([contradictions, done, *refunds(1_000, Outcome.UNKNOWN)])
    assert shown[0] == contradictions
    assert len(shown) == OPERATIONS_MAX


def test_open_operation_stays_in_the_answer() -> None:
    """The answer has an old unanswered refund, before 1,000 answered ones."""
    waiting = refund_operation(1, Outcome.UNKNOWN)
    shown = excerpt([waiting, *refunds(1_000)])
    assert shown[0] == waiting
    assert all(each.kind is Kind.REFUND for each in shown)


def test_contradictions_left_out_are_the_oldest_resolved() -> None:
    """An operation has the newest of its resolved contradictions, in their order."""
    reports = tuple(contradiction(n, resolved=True) for n in range(CONTRADICTIONS_MAX + 5))
    [shown] = excerpt([replace(operation(Outcome.SUCCEEDED), contradictions=reports)])
    assert shown.contradictions == reports[5:]
