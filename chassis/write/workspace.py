"""The locked records that the commands of one set work on. Pure."""

from collections.abc import Mapping
from typing import Generic, TypeVar
from uuid import UUID

R = TypeVar("R")


class Workspace(Generic[R]):
    """The locked records of a set of commands, by id.

    `names` has further ids by which commands name a record, each with the record's own id: the id
    that a command proposed for a record which exists under its natural key, or the id of a part. A
    subclass may add names as the commands make records.
    `before` has the records as they were loaded.
    """

    def __init__(self, records: Mapping[UUID, R], names: Mapping[UUID, UUID] | None = None) -> None:
        self.before, self._records = records, dict(records)
        self._names = {} if names is None else names

    def get(self, target: UUID) -> R | None:
        """Returns the target's record as the commands so far have left it."""
        return self._records.get(self._names.get(target, target))

    def put(self, target: UUID, record: R) -> None:
        """Replaces the target's record."""
        self._records[self._names.get(target, target)] = record

    def get_repeated(self, stored: UUID, proposed: UUID) -> R:
        """Returns the record of a repeat. `stored` is the target of the first try; `proposed`
        names the record where the first try found it by its natural key.
        """
        record = self.get(stored) or self.get(proposed)
        assert record is not None, "a key is stored with the effect of its command"
        return record

    @property
    def after(self) -> dict[UUID, R]:
        """The records that the commands have changed, by id."""
        return {id: r for id, r in self._records.items() if r is not self.before.get(id)}

    @property
    def changed(self) -> list[UUID]:
        """Every id of the records in `after`."""
        after = self.after
        return [*after, *(name for name, id in self._names.items() if id in after)]
