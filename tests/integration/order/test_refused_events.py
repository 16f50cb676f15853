"""An event that the order service refuses stores nothing, and the warehouse is not asked for it."""

from typing import Any

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done
from chassis.values.errors import Failure
from order_svc import consumers, tables
from order_svc.app import Operations
from order_svc.model.records import Order
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import delivery, not_paid, paid, working
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import PATH, place
from tests.refused_events import FORGED, JUMP, REUSED, consume, contents, second_body

MISMATCH = "PAYMENT_AMOUNT_MISMATCH"


def refused(first: Order, order: Order, genuine: Delivery[Any]) -> dict[str, Delivery[Any]]:
    """Returns refused events, by name: about the first order, which is paid, and the other."""
    fulfillment = working(first, "london", PATH[:1])[0]
    fulfillment.fulfillment.version = FORGED
    wrong = paid(order)
    wrong.captured_amount.units += 1
    return {
        "forged version": delivery(fulfillment),
        "second payment": second_body(delivery(paid(order)), genuine),
        "second failure": second_body(delivery(not_paid(order)), genuine),
        "wrong amount": delivery(wrong),
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("forged version", JUMP),
        ("second payment", REUSED),
        ("second failure", REUSED),
        ("wrong amount", MISMATCH),
    ],
)
async def test_refused_event_stores_nothing_and_calls_no_peer(
    operations: Operations,
    engine: AsyncEngine,
    orders: Orders,
    warehouse: FakeWarehouse,
    name: str,
    reason: str,
) -> None:
    """The forged version is 2^60. The second body comes under the id of another order's payment.

    The wrong amount is more than the order costs.
    """
    handlers = consumers.handlers(operations.payments, operations.writer)
    first, other = [await place(orders, operations, "london") for _ in range(2)]
    genuine = delivery(paid(first))
    assert isinstance(await consume(handlers, genuine), Done)
    before = await contents(engine, tables.metadata)
    outcome = await consume(handlers, refused(first, other, genuine)[name])
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    assert await contents(engine, tables.metadata) == before
    assert warehouse.asked_to_commit == [[(first.id, 1)]]
    assert warehouse.asked_to_release == []


async def test_second_payment_of_a_set_commits_no_stock(
    operations: Operations, orders: Orders, warehouse: FakeWarehouse
) -> None:
    """Two payments come in one set under one id: the warehouse commits the first one's stock."""
    first, other = [await place(orders, operations, "london") for _ in range(2)]
    genuine = delivery(paid(first))
    both: list[Delivery[Any]] = [genuine, second_body(delivery(paid(other)), genuine)]
    handlers = consumers.handlers(operations.payments, operations.writer)
    done, failed = await handlers[PaymentConfirmed](both)
    assert isinstance(done, Done)
    assert isinstance(failed, Failure)
    assert failed.reason == REUSED
    assert warehouse.asked_to_commit == [[(first.id, 1)]]
