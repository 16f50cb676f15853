"""The statuses and the refusal that the tests of reservations share."""

import pytest
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.errors import Failure

ACTIVE, CONFIRMED = (
    warehouse_pb2.RESERVATION_STATUS_ACTIVE,
    warehouse_pb2.RESERVATION_STATUS_CONFIRMED,
)


async def refusal(call: object) -> Failure:
    with pytest.raises(Failure) as refused:
        await call  # type: ignore[misc]  # any coroutine
    return refused.value
