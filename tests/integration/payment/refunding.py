"""Refunds without the transport, and their comparison with the sandbox's ledger."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from ordermesh.order.v1 import order_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import (
    RefundCompleted,
)

from chassis.values.envelope import Envelope
from chassis.values.money import Money
from payment_svc.app import Operations
from payment_svc.lifecycle import Status
from payment_svc.model.commands import RefundRequest
from payment_svc.model.records import Payment, Refund
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.world import (
    World,
    create_payment,
    request_envelope,
)

TOTAL = 4250  # the total of world.order()


async def refund(
    world: World,
    payment: Payment,
    minor: int | None = None,
    *,
    at: Operations | None = None,
    request: str = "",
) -> Refund:
    """Calls RefundPayment without the transport."""
    amount = Money(minor, "GBP") if minor else None
    envelope = refunding(payment, request, amount=amount)
    _, made = await (at or world.operations).payments.refund_payment(envelope)
    return made


def refunding(payment: Payment, request: str, **fields: Any) -> Envelope[RefundRequest]:
    """Returns RefundPayment with this request_id, or with a new one."""
    request_id = request or str(uuid4())
    return request_envelope(
        RefundRequest, f"refund:{request_id}", payment, cause=request_id, **fields
    )


async def refund_return(
    world: World,
    payment: Payment,
    return_id: str,
    *,
    at: Operations | None = None,
    request: str = "",
) -> Refund:
    """Calls RefundPayment for the return again, without the transport."""
    envelope = refunding(payment, request, amount=None, return_id=return_id)
    _, made = await (at or world.operations).payments.refund_payment(envelope)
    return made


async def settle(world: World, *, at: Operations | None = None) -> None:
    """Runs the settling worker once, after all open operations have become due."""
    await world.ledger.make_due()
    await (at or world.operations).settlement.settle_due()


async def paid(
    world: World, token: str = "tok_ok", **fields: Any
) -> tuple[order_pb2.Order, Payment]:
    order = await world.order()
    return order, await world.pay(create_payment(order, token, **fields))


async def balanced(world: World, order: order_pb2.Order) -> tuple[Status, int, int, int]:
    """Returns the one payment of the order; asserts that the sandbox's ledger and the payment's
    history agree with it.
    """
    payment = await world.payment(order)
    charged, given = await world.ledger.charged(), await world.ledger.refunded_and_voided()
    assert (charged["charge"] + charged["capture"], given["refund"]) == (
        payment.captured,
        payment.refunded,
    )
    settled = [event for event in await world.ledger.events() if isinstance(event, RefundCompleted)]
    assert (
        sum(
            event.refund.amount.units * 100 + event.refund.amount.nanos // 10_000_000
            for event in settled
        )
        == payment.refunded
    )
    return payment.status, payment.captured, payment.refunded, payment.refund_pending


def webhook(
    sandbox: Sandbox, operation_id: UUID, code: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Returns the webhook that the sandbox would send about a refund."""
    state = "declined" if code else "succeeded"
    return sandbox.webhook(
        Entry(
            key=operation_id,
            kind="refund",
            state=state,
            request_hash=None,
            token=None,
            amount=TOTAL,
            code=code,
            final=False,
        ),
        datetime.now(UTC),
    )
