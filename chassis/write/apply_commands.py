"""Applies commands: each sees the record that its predecessor left. Pure: nothing is
loaded or saved here.
"""

from collections.abc import Callable, Sequence
from collections.abc import MutableMapping as Picture
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from chassis.values.decision import Decision, Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Failure

R = TypeVar("R")
H = TypeVar("H")

# decide(record, envelope, the database's clock) -> decision; raises a Failure
Decide = Callable[[R | None, Envelope[Any], datetime], Decision[R, H]]


@dataclass(frozen=True, slots=True)
class Applied(Generic[R, H]):
    """What came of each command, by its key, and what there is to save: each record once, history
    and facts all, in order.

    `causes` has the cause of each fact's command, `changed` every id under which a record of
    `after` stands.
    """

    outcomes: dict[str, Outcome[R]]
    before: dict[UUID, R]
    after: dict[UUID, R]
    changed: list[UUID]
    history: list[H]
    facts: list[object]
    causes: list[str]

    @property
    def undone(self) -> list[str]:
        """The keys of the commands that have had no effect, not even a skip."""
        return [key for key, outcome in self.outcomes.items() if not isinstance(outcome, Done)]


def apply_commands(
    picture: Picture[UUID, R],
    envelopes: Sequence[Envelope[Any]],
    decide: Decide[R, H],
    now: datetime,
) -> Applied[R, H]:
    """Decides one command after the other over the picture, which ends as the commands leave it.

    A refused command concerns itself alone, and so does one whose decision raises what it should
    not. A record may stand under two ids, its own and the one proposed by a command that found it
    by its natural key: it stays one record.
    """
    before = dict(picture)
    names: dict[int, list[UUID]] = {}
    for name, record in before.items():
        names.setdefault(id(record), []).append(name)
    outcomes: dict[str, Outcome[R]] = {}
    history: list[H] = []
    facts: list[object] = []
    causes: list[str] = []
    for envelope in envelopes:
        known = picture.get(envelope.target)
        try:
            decision = decide(known, envelope, now)
        except Failure as failure:
            failure.target = envelope.target
            outcomes[envelope.key] = failure
        # a decision is pure: whatever else it raises is its command's affair
        except Exception as bug:  # noqa: BLE001
            outcomes[envelope.key] = Defect(bug)
        else:
            for name in names.get(id(before.get(envelope.target)), [envelope.target]):
                picture[name] = decision.record
            skipped = decision.record is known and not decision.history and not decision.facts
            outcomes[envelope.key] = Done(
                record=decision.record,
                skipped=skipped,
                history=decision.history,
                facts=decision.facts,
            )
            history += decision.history
            facts += decision.facts
            causes += [envelope.cause] * len(decision.facts)
    changed = [name for name, record in picture.items() if record is not before.get(name)]
    after = {name: picture[name] for name in {id(picture[name]): name for name in changed}.values()}
    return Applied(
        outcomes=outcomes,
        before=before,
        after=after,
        changed=changed,
        history=history,
        facts=facts,
        causes=causes,
    )
