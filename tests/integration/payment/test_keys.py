"""The formats of stored idempotency keys stay: databases of running systems hold such keys."""

import hashlib
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.errors import Deferred, Invalid
from chassis.values.request_context import request_context
from payment_svc import tables
from payment_svc.model.answers import Declined, Succeeded, answer_hash
from payment_svc.providers import webhooks
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.keys import stored_keys
from tests.integration.payment.conftest import WEBHOOK_KEY
from tests.integration.payment.world import World, create_payment

stored = partial(stored_keys, tables.idempotency_keys)


async def test_charge_with_unknown_outcome_has_its_keys(
    world: World,
    engine: AsyncEngine,
) -> None:
    """A request has its own key; each later write about its operation has the operation's id."""
    order = await world.order()
    request = create_payment(order, "tok_timeout_charged")
    with pytest.raises(Deferred):
        await world.pay(request)
    await world.ledger.make_due()
    await world.operations.settlement.settle_due()
    context, target = request_context(request), UUID(order.order_id)
    assert context.key == f"/ordermesh.payment.v1.PaymentService/CreatePayment:{request.request_id}"
    assert await stored(engine, context.key) == {(context.key, context.request_hash, target)}
    [requested] = (await world.payment(order)).operations
    assert requested.requested_by == context.key
    assert await stored(engine, str(requested.id)) == {
        (f"{requested.id}:unknown", b"", target),
        (f"{requested.id}:lookup:1", b"", target),
        (f"{requested.id}:result:succeeded", b"", target),
    }


async def test_reused_report_is_stored_under_a_step_of_its_key(
    world: World,
    engine: AsyncEngine,
    sandbox: Sandbox,
) -> None:
    """A report has the key of its event id; another report under that id adds the hash of its
    body.
    """
    order = await world.order()
    [requested] = (await world.pay(create_payment(order))).operations
    reports = [
        Entry(
            key=requested.id,
            kind="charge",
            state="succeeded",
            request_hash=None,
            token=None,
            amount=4250,
            code=None,
            final=False,
        ),
        Entry(
            key=requested.id,
            kind="charge",
            state="declined",
            request_hash=None,
            token=None,
            amount=4250,
            code="card_closed",
            final=False,
        ),
    ]
    now = datetime.now(UTC)
    bodies = [sandbox.webhook(each, now)[0] for each in reports]
    first, against = [(body, webhooks.sign(WEBHOOK_KEY, "evt_1", now, body)) for body in bodies]
    await world.operations.settlement.ingest_webhook("sandbox", *first)
    with pytest.raises(Invalid) as refused:
        await world.operations.settlement.ingest_webhook("sandbox", *against)
    assert refused.value.reason == "REQUEST_ID_REUSED"
    answers = [sandbox.parse_webhook(*each, now).answer for each in (first, against)]
    assert [type(each) for each in answers] == [Succeeded, Declined]
    hashes = [answer_hash(requested.id, each) for each in answers]
    target, step = UUID(order.order_id), hashlib.sha256(bodies[1]).hexdigest()
    assert await stored(engine, "webhook:") == {
        ("webhook:sandbox:evt_1", hashes[0], target),
        (f"webhook:sandbox:evt_1:reused:{step}", hashes[1], target),
    }
