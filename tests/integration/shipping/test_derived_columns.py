"""The columns of shipments that are properties of the record."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from shipping_svc.app import Operations
from shipping_svc.lifecycle import Status
from shipping_svc.model.records import Shipment
from shipping_svc.tables import shipments
from tests.support import property_columns
from tests.unit.shipping.samples import create_shipment, record_label, report

CREATED: tuple[Envelope[Any], ...] = (create_shipment(), record_label())
LIVES: dict[str, tuple[Envelope[Any], ...]] = {
    "delivered": (
        *CREATED,
        report(Status.IN_TRANSIT, minute=5),
        report(Status.DELIVERED, minute=9),
        report(Status.OUT_FOR_DELIVERY, minute=7),
    ),
    "lost, then delivered": (
        *CREATED,
        report(Status.LOST, minute=5),
        report(Status.DELIVERED, minute=9),
    ),
}


@pytest.mark.parametrize("life", LIVES)
async def test_each_derived_column_equals_its_property(
    life: str, operations: Operations, engine: AsyncEngine
) -> None:
    """After each write of a shipment's life its row has, in each column that is a property of the
    record, the value of the property.
    """
    names, stored = property_columns(Shipment, shipments), dict[str, Any]()
    for step in LIVES[life]:
        [outcome] = await operations.creation.writer.write([step])
        assert isinstance(outcome, Done), outcome
        async with engine.connect() as connection:
            row = (await connection.execute(select(shipments))).one()._mapping
        stored = {name: row[name] for name in names}
        assert stored == {name: getattr(outcome.record, name) for name in names}
    assert names == ["deliver_time"]
    assert (stored["deliver_time"] is not None) == (life == "delivered")
