"""A payment with more refunds than an answer holds is read over the running server."""

from google.protobuf.message import Message
from ordermesh.payment.v1 import payment_service_pb2 as api
from sqlalchemy import text

from chassis.rpc.client import ask, pages
from payment_svc.model.excerpt import OPERATIONS_MAX
from tests.integration.payment.world import Payments, World, create_payment, pay, pounds

REFUNDS = 34_000

# The payment as it stands after this number of refunds of one cent each.
refund_by_cents = text("""
    with given as (
        insert into operations (
            id, payment_id, kind, amount, outcome, requested_by, request_time, lookups, reference,
            settle_time, cause, cause_id
        )
        select gen_random_uuid(), :payment_id, 'refund', 1, 'succeeded', 'refund:' || n,
            clock_timestamp(), 0, 'sbx_' || gen_random_uuid(), clock_timestamp(), 'request', n
        from generate_series(1, :refunds) n
        returning amount
    )
    update payments
    set status = 'partially_refunded', refunded = :refunds, version = version + :refunds
    where id = :payment_id
""")


async def test_payment_of_34000_refunds_is_answered(payments: Payments, world: World) -> None:
    """GetPayment and ListPayments answer with the newest refunds, ListRefunds with all of them.

    All operations together exceed 4 MiB, the limit of the client here.
    """
    order = await world.order(pounds(1_000))
    payment = await pay(payments, create_payment(order))
    async with world.ledger.engine.begin() as connection:
        parameters = {"payment_id": payment.payment_id, "refunds": REFUNDS}
        await connection.execute(refund_by_cents, parameters)
    get = api.GetPaymentRequest(payment_id=payment.payment_id)
    answer = (await ask(payments.GetPayment, get)).payment
    assert len(answer.operations) == OPERATIONS_MAX
    assert answer.operations[0] == payment.operations[0]
    listed = (await ask(payments.ListPayments, api.ListPaymentsRequest())).payments
    assert list[Message](listed) == [answer]
    request = api.ListRefundsRequest(payment_id=payment.payment_id)
    every = pages(payments.ListRefunds, request, "refunds", size=1_000, timeout_s=30)
    assert sum([len(page) async for page in every]) == REFUNDS
