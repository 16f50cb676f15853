"""An outcome for each event, whatever they ask for."""

from collections.abc import Sequence

from chassis.decision import Done, Outcome
from chassis.errors import Refused
from chassis.handling import carry_out


async def test_each_event_gets_its_own_outcome() -> None:
    """Events that ask for nothing are done; the outcome of each other one stands at its place, and the operation sees them alone."""
    asked: list[list[str]] = []

    async def operation(commands: Sequence[str]) -> Sequence[Outcome[str]]:
        asked.append(list(commands))
        return [Done("first"), Refused("SECOND")]

    nothing, first, nothing_again, second = await carry_out([None, "a", None, "b"], operation)
    assert asked == [["a", "b"]]
    assert nothing == nothing_again == Done(None)
    assert first == Done("first")
    assert isinstance(second, Refused)
    assert await carry_out([None, None], operation) == [Done(None), Done(None)]
    assert len(asked) == 1
