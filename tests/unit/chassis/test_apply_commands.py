"""The application of a set of commands to a workspace, without a database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
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
    """Returns a payment in an envelope whose cause is its key."""
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


def test_each_command_sees_the_result_of_the_one_before() -> None:
    """Each decision works on the record that the one before left. Each record is saved once, with
    all history and domain events in order. Each decision is a microsecond after the one before.
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
    times = [NOW + timedelta(microseconds=place) for place in range(3)]
    assert applied.events == list(zip("abc", times, strict=True))
    assert applied.undone == []


def test_refused_command_leaves_the_workspace_unchanged() -> None:
    """A refused command, and one that raises an unexpected exception, leave the workspace unchanged
    for the next ones.
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


def test_command_without_a_change_is_done_and_saves_nothing() -> None:
    """The decider returns the same record: the command has had its effect, and nothing is saved.
    Its outcome is the same beside other commands.
    """
    one = uuid4()
    workspace = Workspace({one: Account(one, 5)})
    applied = apply_commands(workspace, [pay("a", one, 0)], decide, NOW)
    assert applied.outcomes["a"] == Done(record=Account(one, 5), skipped=True)
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


def test_record_with_two_ids_is_saved_once() -> None:
    """A record found by its natural key also has the proposed id. Changes by either id apply to one
    record, and it is saved once.
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
