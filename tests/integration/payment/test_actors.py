"""The history and the events of a person's change to a payment have its actor and its reason."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Invalid, NotFound
from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from payment_svc.wire import requests
from tests.integration.payment.refunding import settle
from tests.integration.payment.world import Payments, World, create_payment, pay, pounds

ACTOR, NOTE = "staff:7f3a", "The customer called."
METADATA = [("ordermesh-actor", ACTOR)]


async def transitions(
    payments: Payments, payment_id: str
) -> Sequence[payment_pb2.PaymentTransition]:
    request = api.ListPaymentTransitionsRequest(payment_id=payment_id)
    return (await ask(payments.ListPaymentTransitions, request)).transitions


async def events(world: World) -> list[Any]:
    """Returns every event of the service, changes of status first."""
    return [*await world.ledger.status_changes(), *await world.ledger.events()]


async def contradicted(payments: Payments, sandbox: Sandbox, payment: payment_pb2.Payment) -> str:
    """Returns the id of a contradiction of the payment's charge."""
    key = UUID(payment.operations[0].operation_id)
    declined = Entry(
        key=key,
        kind="charge",
        state="declined",
        request_hash=None,
        token=None,
        amount=4250,
        code="lost_card",
        final=False,
    )
    body, headers = sandbox.webhook(declined, datetime.now(UTC))
    report = api.IngestProviderWebhookRequest(processor="sandbox", body=body, headers=headers)
    taken = (await ask(payments.IngestProviderWebhook, report)).payment
    return taken.operations[0].contradictions[0].contradiction_id


# The mutation, the row of its request, the reasons of that row and of the outcome's, and the
# operation's kind and outcome on the first row.
MUTATIONS = [
    ("create", 1, ["PAYMENT_REQUESTED", "CAPTURED"], "CHARGE"),
    ("capture", 3, ["CAPTURE_REQUESTED", "CAPTURED"], "CAPTURE"),
    ("void", 3, ["VOID_REQUESTED", "VOIDED"], "VOID"),
    ("refund", 3, ["REFUND_REQUESTED", "REFUNDED"], "REFUND"),
    ("resolve", 4, ["CONTRADICTION_RESOLVED"], "CHARGE"),
]


async def mutation(
    name: str, payments: Payments, world: World, sandbox: Sandbox
) -> tuple[Any, Any]:
    """Returns the method, and a request to it that succeeds."""
    order = await world.order()
    if name == "create":
        return payments.CreatePayment, create_payment(order)
    held = name in ("capture", "void")
    payment = await pay(payments, create_payment(order, manual_capture=held))
    fields: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    match name:
        case "capture":
            return payments.CapturePayment, api.CapturePaymentRequest(**fields)
        case "void":
            return payments.VoidPayment, api.VoidPaymentRequest(**fields)
        case "refund":
            return payments.RefundPayment, api.RefundPaymentRequest(**fields)
    fields |= {"contradiction_id": await contradicted(payments, sandbox, payment), "note": NOTE}
    return payments.ResolveContradiction, api.ResolveContradictionRequest(**fields)


@pytest.mark.parametrize(
    ("name", "version", "reasons", "kind"), MUTATIONS, ids=[each[0] for each in MUTATIONS]
)
@pytest.mark.parametrize("claimed", [True, False])
async def test_mutation_with_actor_and_note_is_in_history(
    payments: Payments,
    world: World,
    sandbox: Sandbox,
    name: str,
    version: int,
    reasons: list[str],
    kind: str,
    claimed: bool,
) -> None:
    """The row of the request has its claimed actor and note; the row of the outcome has neither.

    Both name the request as their cause, and so do the events; no event has the note. Without
    metadata and note both are unset.
    """
    method, request = await mutation(name, payments, world, sandbox)
    noted = claimed or name == "resolve"
    if noted:
        request.note = NOTE
    before = await events(world)
    answer = await method(request, timeout=5, metadata=METADATA if claimed else None)

    listed = await transitions(payments, answer.payment.payment_id)
    assert [row.payment_version for row in listed] == list(range(1, answer.payment.version + 1))
    rows = listed[version - 1 :]
    assert [(row.reason, row.actor, row.cause_id) for row in rows] == [
        (reason, "payment", request.request_id) for reason in reasons
    ]
    assert [row.operation_id for row in rows] == [answer.payment.operations[-1].operation_id] * len(
        reasons
    )
    names = payment_pb2.PaymentOperationKind.Name
    assert {names(row.operation_kind) for row in rows} == {f"PAYMENT_OPERATION_KIND_{kind}"}
    requested = payment_pb2.PAYMENT_OPERATION_OUTCOME_REQUESTED
    done = payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED
    assert [row.operation_outcome for row in rows] == [requested, done][-len(reasons) :]
    assert (rows[0].claimed_actor, rows[0].note) == (
        ACTOR if claimed else "",
        NOTE if noted else "",
    )
    assert (rows[0].HasField("claimed_actor"), rows[0].HasField("note")) == (claimed, noted)
    others = [row for row in listed if row is not rows[0]]
    assert not any(row.HasField("claimed_actor") or row.HasField("note") for row in others)

    for event in (new for new in await events(world) if new not in before):
        assert (event.reason, event.actor, event.cause_id) == (
            reasons[-1],
            "payment",
            request.request_id,
        )
        assert not event.HasField("claimed_actor")
        assert NOTE not in str(event)


async def test_event_of_a_call_alone_has_its_claimed_actor(
    payments: Payments, world: World
) -> None:
    """The event of a call that needs no processor has the call's claimed actor."""
    order = world.orders.place(pounds(0))
    request = create_payment(order, note=NOTE)
    await payments.CreatePayment(request, timeout=5, metadata=METADATA)
    [event] = await events(world)
    assert isinstance(event, PaymentConfirmed)
    said = (event.reason, event.actor, event.claimed_actor, event.cause_id)
    assert said == ("NOTHING_TO_PAY", "payment", ACTOR, request.request_id)
    assert NOTE not in str(event)
    [row] = await transitions(payments, event.payment_id)
    assert (row.claimed_actor, row.note) == (ACTOR, NOTE)
    assert not row.HasField("operation_id")
    assert (row.operation_kind, row.operation_outcome) == (0, 0)


async def test_late_settlement_names_the_request_as_cause(payments: Payments, world: World) -> None:
    """A change of the settling worker has the service as actor and the request as cause."""
    order = await world.order()
    request = create_payment(order, "tok_timeout_charged", note=NOTE)
    context = replace(request_context(request), claimed_actor=ACTOR)
    envelope, token = requests.create_payment(request, context), request.payment_method_token
    with pytest.raises(Deferred):  # the channel would try again
        await world.operations.payments.create_payment(envelope, token)
    await settle(world)
    [event] = await world.ledger.events()
    rows = await transitions(payments, event.payment_id)
    assert [(row.reason, row.claimed_actor, row.note) for row in rows] == [
        ("PAYMENT_REQUESTED", ACTOR, NOTE),
        ("OUTCOME_UNKNOWN", "", ""),
        ("CAPTURED", "", ""),
    ]
    assert {(row.actor, row.cause_id) for row in rows} == {("payment", request.request_id)}
    assert (event.actor, event.cause_id) == ("payment", request.request_id)


async def test_retry_with_another_actor_changes_nothing(payments: Payments, world: World) -> None:
    """A retry with another claimed actor is a repeat; with another note it is refused."""
    payment = await pay(payments, create_payment(await world.order()))
    request = api.RefundPaymentRequest(
        request_id=str(uuid4()), payment_id=payment.payment_id, note=NOTE
    )
    await payments.RefundPayment(request, timeout=5, metadata=METADATA)
    first = await transitions(payments, payment.payment_id)
    await payments.RefundPayment(request, timeout=5, metadata=[("ordermesh-actor", "staff:other")])
    assert await transitions(payments, payment.payment_id) == first
    assert [row.claimed_actor for row in first if row.claimed_actor] == [ACTOR]
    request.note = "Another reason."
    with pytest.raises(Invalid) as refused:
        await ask(payments.RefundPayment, request)
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("note", ["", "x" * 501])
async def test_note_beyond_its_bounds_is_refused(payments: Payments, note: str) -> None:
    """A note has 1 to 500 characters, on each request that can have one."""
    fields: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": str(uuid4()), "note": note}
    created: dict[str, Any] = {
        "request_id": str(uuid4()),
        "order_id": str(uuid4()),
        "payment_method_token": "t",
        "note": note,
    }
    resolved = fields | {"contradiction_id": str(uuid4())}
    calls: list[tuple[Any, Any]] = [
        (payments.CreatePayment, api.CreatePaymentRequest(**created)),
        (payments.CapturePayment, api.CapturePaymentRequest(**fields)),
        (payments.VoidPayment, api.VoidPaymentRequest(**fields)),
        (payments.RefundPayment, api.RefundPaymentRequest(**fields)),
        (payments.ResolveContradiction, api.ResolveContradictionRequest(**resolved)),
    ]
    for method, request in calls:
        with pytest.raises(Invalid) as refused:
            await ask(method, request)
        assert [violation.subject for violation in refused.value.violations] == ["note"]


async def test_transitions_are_listed_in_pages(payments: Payments, world: World) -> None:
    """Transitions come oldest first, each once over all pages; an unknown payment is
    PAYMENT_NOT_FOUND.
    """
    payment = await pay(payments, create_payment(await world.order(), manual_capture=True))
    await ask(
        payments.VoidPayment,
        api.VoidPaymentRequest(request_id=str(uuid4()), payment_id=payment.payment_id),
    )
    request = api.ListPaymentTransitionsRequest(payment_id=payment.payment_id, page_size=3)
    first = await ask(payments.ListPaymentTransitions, request)
    request.page_token = first.next_page_token
    second = await ask(payments.ListPaymentTransitions, request)
    assert second.next_page_token == ""
    assert len(first.transitions) == 3
    name = payment_pb2.PaymentStatus.Name
    rows = [*first.transitions, *second.transitions]
    assert [(name(row.old_status)[15:], name(row.new_status)[15:]) for row in rows] == [
        ("UNSPECIFIED", "PENDING"),
        ("PENDING", "AUTHORIZED"),
        ("AUTHORIZED", "AUTHORIZED"),
        ("AUTHORIZED", "VOIDED"),
    ]
    unknown = str(uuid4())
    with pytest.raises(NotFound) as refused:
        await transitions(payments, unknown)
    assert (refused.value.reason, refused.value.metadata) == (
        "PAYMENT_NOT_FOUND",
        {"payment_id": unknown},
    )


async def test_transitions_behind_any_place_are_none(payments: Payments, world: World) -> None:
    """A token's place may be higher than any version that the column holds: the page is empty."""
    payment = await pay(payments, create_payment(await world.order()))
    request = api.ListPaymentTransitionsRequest(payment_id=payment.payment_id)
    request.page_token = page_request(request, lambda row: row, int).token((2**40,))
    assert not (await ask(payments.ListPaymentTransitions, request)).transitions


async def check_bounds(method: Any, request_type: Any, field: str, made: list[Any]) -> None:
    """update_time_from is inclusive, update_time_before exclusive, both rounded up to microseconds.

    `made` are three records, oldest first; a page token belongs to its bounds.
    """
    bound = made[1].update_time
    just_after = Timestamp(seconds=bound.seconds, nanos=bound.nanos + 1)

    async def listed(**wanted: Any) -> list[int]:
        found = getattr(await ask(method, request_type(**wanted)), field)
        return sorted(made.index(each) for each in found)

    assert await listed(update_time_from=bound) == [1, 2]
    assert await listed(update_time_before=bound) == [0]
    assert await listed(update_time_from=just_after) == [2]
    assert await listed(update_time_before=just_after) == [0, 1]
    token = (await ask(method, request_type(update_time_from=bound, page_size=1))).next_page_token
    assert token
    others: list[dict[str, Any]] = [
        {},
        {"update_time_from": just_after},
        {"update_time_before": bound},
    ]
    for other in others:
        with pytest.raises(Invalid) as refused:
            await listed(page_token=token, page_size=1, **other)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_payments_are_listed_by_update_time(payments: Payments, world: World) -> None:
    """Payments are listed by the time of their last change instead of their creation, bounded at
    both ends.
    """
    made = [
        await pay(payments, create_payment(await world.order(), manual_capture=True))
        for _ in range(3)
    ]
    late = made.pop(0)
    taking = api.CapturePaymentRequest(request_id=str(uuid4()), payment_id=late.payment_id)
    made.append((await ask(payments.CapturePayment, taking)).payment)
    await check_bounds(payments.ListPayments, api.ListPaymentsRequest, "payments", made)


async def test_refunds_are_listed_by_update_time(
    payments: Payments, world: World, sandbox: Sandbox
) -> None:
    """Refunds are listed by the time of their settlement, or else of their request: a refund that
    is settled last comes last.
    """
    tokens = ("tok_refund_late", "tok_ok", "tok_refund_declined_late")
    paid = [await pay(payments, create_payment(await world.order(), token)) for token in tokens]
    made = []
    for payment in paid:
        request = api.RefundPaymentRequest(request_id=str(uuid4()), payment_id=payment.payment_id)
        made.append((await ask(payments.RefundPayment, request)).refund)
    pending = payment_pb2.REFUND_STATUS_PENDING
    assert [each.status == pending for each in made] == [True, False, True]
    late = made.pop(0)
    entry = Entry(
        key=UUID(late.refund_id),
        kind="refund",
        state="succeeded",
        request_hash=None,
        token=None,
        amount=4250,
        code=None,
        final=False,
    )
    body, headers = sandbox.webhook(entry, datetime.now(UTC))
    report = api.IngestProviderWebhookRequest(processor="sandbox", body=body, headers=headers)
    await ask(payments.IngestProviderWebhook, report)
    listing = api.ListRefundsRequest(payment_id=late.payment_id)
    [settled] = (await ask(payments.ListRefunds, listing)).refunds
    assert settled.update_time == settled.settle_time != settled.create_time
    assert all(each.update_time == each.create_time for each in made if each.status == pending)
    await check_bounds(payments.ListRefunds, api.ListRefundsRequest, "refunds", [*made, settled])
