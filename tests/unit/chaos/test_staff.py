"""The staff of a chaos run: how they use the details of a refusal."""

from uuid import UUID

from chassis.values.errors import Refused
from tests.chaos.staff import MISSING, SHIPPED
from tests.unit.warehouse.world import adjust, changed, confirm, report_picklist, reserve, stocked
from warehouse_svc.model.commands import ShippedAfterVoid

SHIPMENT = UUID("0195aaaa-0000-7000-8000-00000000c001")


def test_shelf_shortage_names_stock_to_receive() -> None:
    """The operator of a chaos run receives the units that the warehouse's refusal names, by
    warehouse and SKU. The event is then posted.
    """
    world = stocked(london={"green-tea": 3})
    world.do(reserve(("green-tea", 3)), confirm())
    # the label is void: all units are back on the shelf
    world.do(report_picklist("london", {1: 0}))
    world.do(adjust("london", "green-tea", -2))
    shipped = ShippedAfterVoid(SHIPMENT, {1: 3})
    [refused] = world.try_all(
        changed(report_picklist("london", {1: 0}), shipped_after_void=shipped)
    )
    assert isinstance(refused, Refused)
    assert refused.reason == "SHELF_SHORTAGE"
    assert SHIPPED.findall(refused.message) == ["london"]
    assert MISSING.findall(refused.message) == [("green-tea", "3")]
    world.do(adjust("london", "green-tea", 3))
    world.do(changed(report_picklist("london", {1: 0}), shipped_after_void=shipped))
    assert world.balances("london", "green-tea") == (1, 0, 0, 0)
