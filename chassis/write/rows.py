"""Rows of a table and records of a dataclass, mapped by name and checked at import. Pure.

LINE = RecordRows(Line, lines.c, keys=["fulfillment_id"])
LINE.record(row)                              # the row as a Line
row_arrays([LINE.row(line, fulfillment_id=id), ...])  # the parameters of insert_rows
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar, get_type_hints

from sqlalchemy import Column, Row

R = TypeVar("R")


class RecordRows(Generic[R]):
    """The mapping of the records of one class to the columns of a table.

    kind     the class, a dataclass. A field whose type is another dataclass is stored in the
             columns of that class's own fields
    columns  the table's columns
    keys     names of columns that are no field: the key of the record to which this one belongs
    loaded   names of fields that are no column: the store reads them from other tables
    derived  names of columns that are properties of the record: written, and never read back

    Raises TypeError, which names them, where columns and fields do not agree.
    """

    def __init__(
        self,
        kind: type[R],
        columns: Iterable[Column[Any]],
        *,
        keys: Collection[str] = (),
        loaded: Collection[str] = (),
        derived: Collection[str] = (),
    ) -> None:
        names = [column.name for column in columns]
        hints = get_type_hints(kind)
        all_fields = fields(kind)  # type: ignore[arg-type]
        own = [each.name for each in all_fields if each.name not in loaded]
        parts = {
            name: [each.name for each in fields(hints[name])]
            for name in own
            if is_dataclass(hints[name])
        }
        stored = {name: name for name in own if name not in parts} | {
            name: f"{part}.{name}" for part, of_part in parts.items() for name in of_part
        }
        expected = {*stored, *keys, *derived}
        if wrong := expected.symmetric_difference(names):
            raise TypeError(f"{kind.__name__} and its columns differ in {', '.join(sorted(wrong))}")
        if missing := [name for name in derived if not isinstance(vars(kind).get(name), property)]:
            raise TypeError(f"{kind.__name__} has no property {', '.join(missing)}")
        self._kind, self._keys = kind, frozenset(keys)
        self._fields = [name for name in own if name not in parts]
        self._parts = {part: (hints[part], of_part) for part, of_part in parts.items()}
        paths = stored | {name: name for name in derived}
        self._readers = {name: attrgetter(path) for name, path in paths.items()}

    def record(self, row: Row[*tuple[Any, ...]], label: str = "", /, **loaded: Any) -> R:
        """Returns the row's record. `loaded` has the fields that are no column, by name. `label`
        stands before the columns' names in the result of a join.
        """
        values = row._mapping
        parts = {
            part: kind(**{name: values[label + name] for name in names})
            for part, (kind, names) in self._parts.items()
        }
        own = {name: values[label + name] for name in self._fields}
        return self._kind(**own, **parts, **loaded)

    def row(self, record: R, **keys: Any) -> dict[str, Any]:
        """Returns the record's columns by name, and with them those of `keys`.

        Raises ValueError where `keys` are not the keys that the constructor was given.
        """
        if keys.keys() != self._keys:
            raise ValueError(f"{self._kind.__name__} is stored under {sorted(self._keys)}")
        return keys | {name: read(record) for name, read in self._readers.items()}

    def arrays(self, records: Iterable[R], names: Collection[str] = ()) -> dict[str, list[Any]]:
        """Returns the columns of records that have no `keys`, or those of `names` alone, as the
        parameters of a statement over sets.
        """
        readers = {name: self._readers[name] for name in names or self._readers}
        several = list(records)
        return column_arrays(
            **{name: [read(record) for record in several] for name, read in readers.items()}
        )


def column_arrays(**columns: Iterable[Any]) -> dict[str, list[Any]]:
    """Returns columns, each with its values, as the parameters of a statement over sets: see
    chassis.write.tables.unnest_rows.
    """
    return {f"given_{name}": list(values) for name, values in columns.items()}


def row_arrays(rows: Collection[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns rows, by column name, as the parameters of a statement over sets. All rows have the
    same names, and there is one at least.
    """
    names = next(iter(rows))
    return column_arrays(**{name: [row[name] for row in rows] for name in names})
