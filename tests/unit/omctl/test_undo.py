"""`omctl order undo`: its output about units that it cannot give back."""

from typing import Any

import grpc
import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from omctl.undo import Undo

ORDER_ID = "01890000-0000-7000-8000-000000000001"
SERVICES = ("order", "fulfillment", "shipping", "payment", "warehouse")


@pytest.mark.parametrize("warehouse_id", ["london", "leeds"])
async def test_undo_commit_without_fulfilment_names_the_audit(
    monkeypatch: pytest.MonkeyPatch, warehouse_id: str
) -> None:
    """Committed units without a fulfilment are named with the command that makes them available.
    With a fulfilment, its event uncommits them.
    """
    work = fulfillment_pb2.Fulfillment(
        warehouse_id=warehouse_id,
        attempt=1,
        status=fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED,
    )
    line = warehouse_pb2.ReservationLine(line_number=1, sku="lamp", committed=2)
    reservation = warehouse_pb2.Reservation(
        reservation_id="R",
        warehouse_id="london",
        attempt=1,
        lines=[line],
    )
    there: dict[str, list[Any]] = {
        "fulfillments": [work],
        "reservations": [reservation],
        "shipments": [],
        "payments": [],
    }

    async def listed(stub: Any, request: Any, field: str) -> list[Any]:
        return there[field]

    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        undo = Undo(dict.fromkeys(SERVICES, channel), ORDER_ID, 1.0)
        monkeypatch.setattr(undo, "_all", listed)
        steps = [step async for step in undo.steps()]
    if warehouse_id == "london":
        assert steps == []
        return
    [step] = steps
    assert step.startswith("reservation R: 2 units stay committed: no fulfilment picks them.")
    assert "`omctl audit`" in step
