"""Folding decisions, without a database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from chassis.values.decision import Decision, Done, Outcome, unwrap
from chassis.values.envelope import Context, Decider, Envelope, decider
from chassis.values.errors import Defect, Refused
from chassis.write.apply_commands import apply_commands
from chassis.write.workspace import Workspace

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Account:
    id: UUID
    balance: int = 0


@dataclass(frozen=True, slots=True)
class Pay:
    amount: int


def pay(key: str, target: UUID, amount: int) -> Envelope[Pay]:
    """A payment in an envelope whose cause is its key."""
    return Envelope(
        key=key, request_hash=b"", target=target, actor="payer", cause=key, command=Pay(amount)
    )


def decide_payment(
    account: Account | None, command: Pay, context: Context
) -> Decision[Account, str]:
    account = account or Account(context.target)
    if command.amount == 13:
        raise ZeroDivisionError
    if account.balance + command.amount < 0:
        raise Refused("OVERDRAWN")
    if not command.amount:
        return Decision(account)
    return Decision(
        replace(account, balance=account.balance + command.amount),
        [context.cause],
        [(context.cause, context.time)],
    )


DECIDERS: Mapping[type[Any], Decider[Account, str]] = {Pay: decide_payment}
decide = decider(DECIDERS)


def balance(outcome: Outcome[Account]) -> int:
    return unwrap(outcome).balance


def test_each_command_sees_what_its_predecessor_left() -> None:
    """Each decision sees what the one before it left; each record is saved once, history and
    facts all, in order.
    """
    one, two = uuid4(), uuid4()
    workspace = Workspace({one: Account(one, 5)})
    applied = apply_commands(
        workspace, [pay("a", one, 1), pay("b", two, 2), pay("c", one, 3)], decide, NOW
    )
    assert [balance(o) for o in applied.outcomes.values()] == [6, 2, 9]
    assert workspace.before == {one: Account(one, 5)}
    assert workspace.after == {one: Account(one, 9), two: Account(two, 2)}
    assert applied.history == ["a", "b", "c"]
    assert applied.facts == [("a", NOW), ("b", NOW), ("c", NOW)]
    assert applied.undone == []


def test_what_is_refused_concerns_itself_alone() -> None:
    """A refused command and one that raises what it should not leave the workspace as it was, for
    those that follow.
    """
    one = uuid4()
    applied = apply_commands(
        Workspace({one: Account(one, 5)}),
        [pay("a", one, -9), pay("b", one, 13), pay("c", one, 1)],
        decide,
        NOW,
    )
    assert isinstance(applied.outcomes["a"], Refused)
    assert isinstance(applied.outcomes["b"], Defect)
    assert balance(applied.outcomes["c"]) == 6
    assert applied.undone == ["a", "b"]
    assert applied.history == ["c"]


def test_a_skip_is_done_and_saves_nothing() -> None:
    """The same record comes back: the command has had its effect, and there is nothing to save.
    Its outcome says so, whatever is done beside it.
    """
    one = uuid4()
    workspace = Workspace({one: Account(one, 5)})
    applied = apply_commands(workspace, [pay("a", one, 0)], decide, NOW)
    assert applied.outcomes["a"] == Done(Account(one, 5), skipped=True)
    assert workspace.after == {}
    assert applied.undone == []
    applied = apply_commands(
        workspace, [pay("a", one, 1), pay("b", one, 0), pay("c", one, 1)], decide, NOW
    )
    assert [isinstance(o, Done) and o.skipped for o in applied.outcomes.values()] == [
        False,
        True,
        False,
    ]


def test_a_record_under_two_names_stays_one() -> None:
    """Found by its natural key, a record stands under the proposed id too; what either changes
    both see, and it is saved once.
    """
    known, proposed = uuid4(), uuid4()
    workspace = Workspace({known: Account(known, 5)}, {proposed: known})
    applied = apply_commands(workspace, [pay("a", proposed, 1), pay("b", known, 1)], decide, NOW)
    assert balance(applied.outcomes["b"]) == 7
    assert workspace.after == {known: Account(known, 7)}
    assert set(workspace.after) <= set(workspace.before)  # changed, and not new
    assert workspace.changed == [known, proposed]


def test_repeat_is_found_by_either_id() -> None:
    """A repeat gets the record of its first try: by the stored target, or by the id that the
    repeat proposes where only the natural key finds the record.
    """
    known, proposed = uuid4(), uuid4()
    workspace = Workspace({known: Account(known, 5)}, {proposed: known})
    assert workspace.get_repeated(known, uuid4()) == Account(known, 5)
    assert workspace.get_repeated(uuid4(), proposed) == Account(known, 5)
