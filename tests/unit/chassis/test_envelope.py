"""Envelopes: their parts, the context of a decider, and the choice of the decider."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.consume.delivery import Delivery
from chassis.values.decision import Decision, Done
from chassis.values.envelope import IDS_MAX, Context, Decider, Envelope, decider
from chassis.values.errors import Defect, Refused
from chassis.values.request_context import RequestContext
from chassis.write.apply_commands import apply_commands
from chassis.write.workspace import Workspace
from tests.sample.events import SampleStatusChanged

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
TARGET = UUID("01957000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


def envelope(command: object, **parts: Any) -> Envelope[Any]:
    """Returns an envelope around the command, with these parts."""
    usual: dict[str, Any] = {
        "key": "test:1",
        "request_hash": b"d",
        "target": TARGET,
        "actor": "cashier",
        "cause": "1",
    }
    return Envelope(**(usual | parts), command=command)


def test_request_envelope_takes_all_of_the_call() -> None:
    """Key, hash, claimed actor and note are those of the call; target, actor and cause are the
    service's.
    """
    context = RequestContext(
        key="/sample.v1.Bank/Deposit:r1",
        request_hash=b"digest",
        claimed_actor="staff:7f3a",
        note="by phone",
    )
    made = Envelope.of_request(context, Deposit(5), target=TARGET, actor="cashier", cause="r1")
    assert made == Envelope(
        key="/sample.v1.Bank/Deposit:r1",
        request_hash=b"digest",
        target=TARGET,
        actor="cashier",
        cause="r1",
        command=Deposit(5),
        claimed_actor="staff:7f3a",
        note="by phone",
    )


def test_event_envelope_names_the_event_as_its_cause() -> None:
    """Key and hash are the delivery's, and the cause is the event's id. The claimed actor is
    empty.
    """
    event_id = uuid4()
    delivery = Delivery(
        event_id=event_id,
        key=f"bank:{event_id}",
        request_hash=b"digest",
        message=SampleStatusChanged(),
        time=NOW,
    )
    made = Envelope.of_event(delivery, Deposit(5), target=TARGET, actor="order")
    assert made == Envelope(
        key=f"bank:{event_id}",
        request_hash=b"digest",
        target=TARGET,
        actor="order",
        cause=str(event_id),
        command=Deposit(5),
        claimed_actor=None,
        note=None,
    )


def test_envelope_has_the_parts_of_a_write() -> None:
    """An envelope has the key, the request hash, the target and the cause for a write."""
    command = envelope(Deposit(5))
    assert (command.key, command.request_hash, command.target) == ("test:1", b"d", TARGET)
    assert command.cause == "1"


def test_with_command_changes_only_the_command() -> None:
    """All other parts stay, so the write of the other command has the same key."""
    first = envelope(Deposit(5), claimed_actor="staff:7f3a", note="by phone")
    other = first.with_command(Withdraw(3))
    assert other == replace(first, command=Withdraw(3))
    assert (other.key, other.command) == ("test:1", Withdraw(3))


def test_step_appends_its_name_to_the_key() -> None:
    """A second write has its own key, with the request hash, actor and note of the first."""
    first = envelope(Deposit(5), claimed_actor="staff:7f3a", note="by phone")
    further = first.step("fee", Withdraw(1))
    assert further.key == "test:1:fee"
    assert further == replace(first, key="test:1:fee", command=Withdraw(1))


def test_context_has_all_but_key_hash_and_command() -> None:
    """A decider gets time, target, actor, cause, claimed actor and note, without the key."""
    context = envelope(Deposit(5), claimed_actor="staff:7f3a", note="by phone").context(NOW)
    assert (context.time, context.target, context.actor, context.cause) == (
        NOW,
        TARGET,
        "cashier",
        "1",
    )
    assert (context.claimed_actor, context.note) == ("staff:7f3a", "by phone")
    public = {field.name for field in fields(Context) if not field.name.startswith("_")}
    assert public == {"time", "target", "actor", "cause", "claimed_actor", "note"}
    assert "test:1" not in repr(context)


def test_new_id_of_a_retry_is_the_same() -> None:
    """Key, time and number alone determine the id."""
    context = envelope(Deposit(5)).context(NOW)
    again = envelope(Withdraw(3), note="again", actor="other").context(NOW)
    assert context.new_id(0) == again.new_id(0)
    assert len({context.new_id(number) for number in range(1000)}) == 1000
    assert envelope(Deposit(5), key="test:2").context(NOW).new_id(0) != context.new_id(0)
    assert envelope(Deposit(5)).context(NOW + timedelta(seconds=1)).new_id(0) != context.new_id(0)


def test_new_ids_are_uuid7_in_order() -> None:
    """The ids of a command sort by number, and those of several commands by time."""
    times = [(f"test:{n}", NOW + timedelta(milliseconds=n)) for n in range(20)]
    contexts = [envelope(Deposit(5), key=key).context(time) for key, time in times]
    ids = [c.new_id(number) for c in contexts for number in (0, 1, 255, 256, IDS_MAX - 1)]
    assert ids == sorted(ids)
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}


@pytest.mark.parametrize("number", [-1, IDS_MAX])
def test_new_id_beyond_the_bounds_is_refused(number: int) -> None:
    """A number out of bounds has no id, because the id could equal another number's."""
    with pytest.raises(ValueError, match="at most"):
        envelope(Deposit(5)).context(NOW).new_id(number)


@pytest.mark.parametrize(
    ("number", "stored"),
    [
        (0, "01a20320-a27b-7000-8012-4d3588213b1c"),
        (1, "01a20320-a27b-7000-8052-4d3588213b1c"),
        (300, "01a20320-a27b-7001-8b12-4d3588213b1c"),
        (IDS_MAX - 1, "01a20320-a27b-7fff-bfd2-4d3588213b1c"),
    ],
)
def test_new_id_equals_the_warehouse_id(number: int, stored: str) -> None:
    """The ids in the warehouse's ledger have this form."""
    made = envelope(Deposit(5), key="/x/Y:r1").context(NOW).new_id(number)
    assert made == UUID(stored)


# --- deciders


def deposit(balance: int | None, command: Deposit, context: Context) -> Decision[int, str]:
    """Returns the balance with the amount, and a row with the values of the context."""
    row = f"{context.actor} {context.cause} {context.time:%H:%M} {context.note}"
    return Decision((balance or 0) + command.amount, [row])


def withdraw(balance: int | None, command: Withdraw, context: Context) -> Decision[int, str]:
    """Returns the balance without the amount. Raises Refused if the balance is too low."""
    if (balance or 0) < command.amount:
        raise Refused("QUANTITY_EXCEEDS_PICKLIST", f"{context.target} is overdrawn")
    return Decision((balance or 0) - command.amount)


TABLE: Mapping[type[Any], Decider[int, str]] = {Deposit: deposit, Withdraw: withdraw}


def test_decider_is_chosen_by_the_command_type() -> None:
    """The table's decider gets the record, the envelope's command and the context."""
    decide = decider(TABLE)
    decided = decide(None, envelope(Deposit(5), note="by phone"), NOW)
    assert (decided.record, decided.history) == (5, ["cashier 1 12:00 by phone"])
    assert decide(5, envelope(Withdraw(3)), NOW).record == 2
    with pytest.raises(Refused, match="overdrawn"):
        decide(2, envelope(Withdraw(3)), NOW)


def test_command_without_decider_is_a_defect() -> None:
    """The defect names the command. Within a set it fails alone."""
    decide = decider({Deposit: deposit})
    with pytest.raises(Defect) as caught:
        decide(5, envelope(Withdraw(3)), NOW)
    assert "Withdraw has no decider" in str(caught.value.__cause__)
    commands = [envelope(Withdraw(3)), envelope(Deposit(5), key="test:2")]
    outcomes = apply_commands(Workspace({TARGET: 5}), commands, decide, NOW).outcomes
    assert isinstance(outcomes["test:1"], Defect)
    assert outcomes["test:2"] == Done(record=10)


def test_decider_of_a_base_class_takes_no_subclass() -> None:
    """The lookup uses the exact type, so a new command is never decided as another one."""

    @dataclass(frozen=True, slots=True)
    class Salary(Deposit):
        pass

    with pytest.raises(Defect):
        decider(TABLE)(5, envelope(Salary(5)), NOW)
