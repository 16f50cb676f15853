"""The steps of the staff for returns, by status."""

from typing import Any
from uuid import UUID

import pytest
from ordermesh.order.v1 import return_pb2
from ordermesh.order.v1 import return_service_pb2 as api

from simulator.returns import AT_DESK, ENDS, next_step

RETURN_ID = str(UUID(int=4))


def back(status: str, version: int = 3, **line: Any) -> return_pb2.Return:
    """Returns a return of two lines, the first with the fields of `line`."""
    lines = [
        return_pb2.ReturnLine(line_number=2, sku="A", announced_quantity=3, **line),
        return_pb2.ReturnLine(
            line_number=5, sku="B", announced_quantity=1, received_quantity=1, passed_quantity=1
        ),
    ]
    stands = return_pb2.ReturnStatus.Value(f"RETURN_STATUS_{status}")
    return return_pb2.Return(return_id=RETURN_ID, status=stands, version=version, lines=lines)


@pytest.mark.parametrize("status", list(return_pb2.ReturnStatus.keys())[1:])
def test_each_status_has_its_step(status: str) -> None:
    """Up to the inspection there is a step for the staff; afterwards there is none."""
    order_return = back(status.removeprefix("RETURN_STATUS_"), received_quantity=2)
    steps: dict[int, type] = {
        return_pb2.RETURN_STATUS_REQUESTED: api.ApproveReturnRequest,
        return_pb2.RETURN_STATUS_APPROVED: api.ReceiveReturnRequest,
        return_pb2.RETURN_STATUS_IN_TRANSIT: api.ReceiveReturnRequest,
        return_pb2.RETURN_STATUS_RECEIVED: api.InspectReturnRequest,
    }
    assert type(next_step(order_return)) is steps.get(order_return.status, type(None))
    assert (order_return.status in AT_DESK) == (order_return.status in steps)
    assert not ENDS & set(AT_DESK)


def test_all_announced_units_arrive_and_pass() -> None:
    """Each line arrives with its units. An inspected line is not inspected again."""
    arrived = next_step(back("APPROVED"))
    assert isinstance(arrived, api.ReceiveReturnRequest)
    assert [(line.line_number, line.quantity) for line in arrived.lines] == [(2, 3), (5, 1)]
    seen = next_step(back("RECEIVED", received_quantity=3, passed_quantity=1))
    assert isinstance(seen, api.InspectReturnRequest)
    assert [
        (line.line_number, line.passed_quantity, line.failed_quantity) for line in seen.lines
    ] == [(2, 2, 0)]


def test_step_on_the_same_version_is_the_same_request() -> None:
    """The same step on the same version is the same request; on another version it is another
    one.
    """
    first, repeat, later = (next_step(back("APPROVED", version)) for version in (3, 3, 4))
    assert first == repeat
    assert first is not None
    assert later is not None
    assert first.request_id != later.request_id
