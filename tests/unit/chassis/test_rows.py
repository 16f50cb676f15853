"""Rows and records: mapped by name, and compared at import."""

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Result, Table, Text
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.engine.row import Row

from chassis.write.rows import RecordRows, row_arrays


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a box."""

    aisle: int
    shelf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box: its place is two columns, its items are in another table."""

    id: int
    place: Place
    count: int
    items: tuple[str, ...] = ()

    @property
    def heavy(self) -> bool:
        """Whether the box has more than ten items."""
        return self.count > 10


TABLE = Table(
    "boxes",
    MetaData(),
    Column("heavy", Integer),
    Column("shelf", Text),
    Column("count", Integer),
    Column("room_id", Integer),
    Column("aisle", Integer),
    Column("id", Integer),
)
BOX = Box(id=7, place=Place(aisle=3, shelf="b"), count=11, items=("lamp",))
STORED = {"heavy": True, "shelf": "b", "count": 11, "room_id": 2, "aisle": 3, "id": 7}
BOXES = RecordRows(Box, TABLE.c, keys=["room_id"], loaded=["items"], derived=["heavy"])


def _row(values: dict[str, Any]) -> Row[Any]:
    result: Result[Any] = IteratorResult(
        SimpleResultMetaData(list(values)), iter([tuple(values.values())])
    )
    return result.one()


def test_row_becomes_record_by_name() -> None:
    """The columns' order and a column with the name of a tuple's method make no difference."""
    assert BOXES.record(_row(STORED), items=("lamp",)) == BOX


def test_record_becomes_row_with_keys_and_properties() -> None:
    """A derived column has the value of the record's property."""
    assert BOXES.row(BOX, room_id=2) == STORED


def test_row_without_its_keys_is_refused() -> None:
    """A child row needs its parent's key."""
    with pytest.raises(ValueError, match="Box is stored under \\['room_id'\\]"):
        BOXES.row(BOX)
    with pytest.raises(ValueError, match="stored under"):
        BOXES.row(BOX, room_id=2, aisle=9)


def test_rows_become_arrays_by_name() -> None:
    """Each column's values are in the order of the rows, for any order of the names."""
    rows = [{"id": 1, "count": 5}, {"count": 6, "id": 2}]
    assert row_arrays(rows) == {"given_id": [1, 2], "given_count": [5, 6]}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"keys": []}, "room_id"),
        ({"loaded": []}, "items"),
        ({"derived": []}, "heavy"),
        ({"keys": ["room_id", "floor"]}, "floor"),
    ],
)
def test_columns_that_differ_are_named(changed: dict[str, list[str]], named: str) -> None:
    """A column without a field, and a field without a column, raise an error at import."""
    aside = {"keys": ["room_id"], "loaded": ["items"], "derived": ["heavy"]} | changed
    with pytest.raises(TypeError, match=f"Box and its columns differ in {named}$"):
        RecordRows(Box, TABLE.c, **aside)


def test_derived_column_needs_a_property() -> None:
    """A derived column needs a property: a field has a column of its own."""
    with pytest.raises(TypeError, match="Box has no property count"):
        RecordRows(Box, TABLE.c, keys=["room_id"], loaded=["items"], derived=["heavy", "count"])
