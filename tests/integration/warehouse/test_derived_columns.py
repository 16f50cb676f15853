"""The columns of the warehouse that are properties of a record."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from tests.support import property_columns
from tests.unit.warehouse.world import (
    adjust,
    close_attempt,
    confirm,
    post_return,
    receive,
    release,
    replace_spoiled,
    report_picklist,
    reserve,
    ship,
)
from warehouse_svc.app import Operations
from warehouse_svc.model.records import Movement, Reservation, ReservationLine, StockLevel
from warehouse_svc.tables import movements, reservation_lines, reservations, stock_levels

START = (receive("london", tea=9), reserve(("tea", 3)))
LIVES: dict[str, tuple[Envelope[Any], ...]] = {
    "returned": (
        *START,
        adjust("london", "tea", -1),
        confirm(),
        replace_spoiled("london", {1: 1}),
        report_picklist("london", {1: (2, 1, 1)}),
        ship("london", {1: (2, 1, 1)}),
        post_return("london", {1: 1}, {1: 1}),
    ),
    "released": (*START, release({1: 1}), release()),
    "closed": (*START, confirm(), close_attempt()),
}


@pytest.mark.parametrize("life", LIVES)
async def test_each_derived_column_equals_its_property(
    life: str, operations: Operations, engine: AsyncEngine
) -> None:
    """After each write of an order's life each row has, in each column that is a property of its
    record, the value of the property. The life changes the status.
    """
    statuses, known = set(), dict[UUID, Reservation]()
    for step in LIVES[life]:
        [outcome] = await operations.writer.write([step])
        assert isinstance(outcome, Done), outcome
        for row in await rows(engine, stock_levels):
            level = outcome.record.levels[row.warehouse_id, row.sku]
            assert derived(row, StockLevel, stock_levels) == properties(level, stock_levels)
        written = {each.id: each for each in outcome.history}
        for row in await rows(engine, movements):
            if row.id in written:
                assert derived(row, Movement, movements) == properties(written[row.id], movements)
        if order := outcome.record.order_reservations:
            known = {each.id: each for each in order.reservations}
        for row in await rows(engine, reservations):
            assert derived(row, Reservation, reservations) == properties(
                known[row.id], reservations
            )
            statuses.add(row.status)
        for row in await rows(engine, reservation_lines):
            [line] = known[row.reservation_id].lines
            assert derived(row, ReservationLine, reservation_lines) == properties(
                line, reservation_lines
            )
    assert len(statuses) > 1


def test_derived_columns_of_the_warehouse_are_these() -> None:
    """The columns that the test above compares."""
    assert {
        table.name: set(property_columns(kind, table))
        for kind, table in (
            (StockLevel, stock_levels),
            (Movement, movements),
            (Reservation, reservations),
            (ReservationLine, reservation_lines),
        )
    } == {
        "stock_levels": {"id"},
        "movements": {"level_id", "reserved", "committed", "damaged", "outside"},
        "reservations": {"status"},
        "reservation_lines": {"quantity"},
    }


async def rows(engine: AsyncEngine, table: Table) -> list[Row[Any]]:
    async with engine.connect() as connection:
        return list(await connection.execute(select(table)))


def derived(row: Row[Any], kind: type, table: Table) -> dict[str, Any]:
    """Returns the row's columns that are properties of the record's class."""
    return {name: row._mapping[name] for name in property_columns(kind, table)}


def properties(record: object, table: Table) -> dict[str, Any]:
    """Returns the record's properties that are columns of the table."""
    return {name: getattr(record, name) for name in property_columns(type(record), table)}
