"""The reads of payments, validation, and the events of a payment, over a real channel, a real
PostgreSQL and the sandbox processor.
"""

from typing import Any
from uuid import uuid4

import pytest
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api
from sqlalchemy import select

from chassis.rpc.client import ask, pages
from chassis.values.errors import Invalid, NotFound
from payment_svc import tables
from tests.integration.payment.calls import capture
from tests.integration.payment.world import (
    Payments,
    World,
    create_payment,
    pay,
    pounds,
    refused,
)


async def test_payments_are_listed_by_page_and_filter(payments: Payments, world: World) -> None:
    """Payments come newest first, each once over all pages; by order, by status, by time. A token
    belongs to its filter.
    """
    orders = [await world.order() for _ in range(3)]
    made = [await pay(payments, create_payment(order)) for order in orders]
    await refused(payments, create_payment(await world.order(), "tok_declined_stolen"))

    async def listed(**fields: Any) -> list[str]:
        every = pages(payments.ListPayments, api.ListPaymentsRequest(**fields), "payments", size=2)
        return [payment.payment_id async for page in every for payment in page]

    captured = [payment_pb2.PAYMENT_STATUS_CAPTURED]
    newest_first = [payment.payment_id for payment in reversed(made)]
    assert (await listed())[1:] == newest_first
    assert await listed(statuses=captured) == newest_first
    assert await listed(order_id=orders[1].order_id) == [made[1].payment_id]
    assert await listed(create_time_from=made[1].create_time, statuses=captured) == newest_first[:2]
    first = await ask(payments.ListPayments, api.ListPaymentsRequest(page_size=2))
    with pytest.raises(Invalid) as foreign:
        await ask(
            payments.ListPayments,
            api.ListPaymentsRequest(page_token=first.next_page_token, statuses=captured),
        )
    assert foreign.value.reason == "PAGE_TOKEN_INVALID"
    with pytest.raises(NotFound):
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=str(uuid4())))


async def test_invalid_request_gets_each_field_violation(payments: Payments) -> None:
    """The server refuses a request that breaks the contract's rules, with each field."""
    with pytest.raises(Invalid) as invalid:
        await ask(
            payments.CreatePayment, api.CreatePaymentRequest(request_id="no", order_id="neither")
        )
    assert {v.subject for v in invalid.value.violations} == {
        "request_id",
        "order_id",
        "payment_method_token",
    }


async def test_events_of_a_try_have_its_payment(payments: Payments, world: World) -> None:
    """A declined try, an authorisation and its capture each publish an event of the change of
    status. It has the payment's id as key, the order, the request as cause, and a sequence without
    a gap among the payment's events.

    So an analyst can compute the decline rate.
    """
    order = await world.order(pounds(42, 50))
    request = create_payment(order, "tok_declined_insufficient_funds")
    assert (await refused(payments, request)).reason == "PAYMENT_DECLINED"
    authorized = await pay(payments, create_payment(order, manual_capture=True))
    taking = str(uuid4())
    await capture(payments, authorized, request_id=taking)
    results = [
        (
            payment_pb2.PaymentStatus.Name(each.new_status),
            each.try_number,
            each.decline_code,
            each.payment_version,
        )
        for each in await world.ledger.status_changes()
    ]
    assert results == [
        ("PAYMENT_STATUS_DECLINED", 1, "insufficient_funds", 2),
        ("PAYMENT_STATUS_AUTHORIZED", 2, "", 2),
        ("PAYMENT_STATUS_CAPTURED", 2, "", 4),
    ]
    columns = tables.outbox.c
    async with world.ledger.engine.connect() as connection:
        rows = (await connection.execute(select(tables.outbox).order_by(columns.id))).all()
    declined = (await world.ledger.status_changes())[0].payment_id
    assert [(str(row.aggregate), row.sequence) for row in rows] == [
        (declined, 1),
        (authorized.payment_id, 1),
        (authorized.payment_id, 2),
        (authorized.payment_id, 3),  # confirmed
    ]
    assert {str(row.correlation_id) for row in rows} == {order.order_id}
    assert [row.causation_id for row in rows] == [
        request.request_id,
        rows[1].causation_id,
        taking,
        taking,
    ]
