"""The sandbox processor alone: idempotent on its keys, with a ledger that outlives its clients, and
with webhooks.
"""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.errors import Deferred, Failure, Refused
from chassis.write.database import connect
from payment_svc import tables
from payment_svc.model.answers import (
    NOT_PROCESSED,
    Answer,
    Declined,
    Pending,
    Report,
    Succeeded,
)
from payment_svc.providers import sandbox_ledger
from payment_svc.providers.port import Authorization, Processor
from payment_svc.providers.sandbox import TOKENS, Fault, Sandbox
from payment_svc.providers.sandbox_ledger import Ledger
from tests.integration.payment.world import LedgerReader, World, create_payment
from tests.support import Eventually


def charge(token: str = "tok_ok", *, amount: int = 100, capture: bool = True) -> Authorization:
    return Authorization(key=uuid4(), token=token, amount=amount, currency="GBP", capture=capture)


async def ask(question: Awaitable[Answer]) -> Answer | type[BaseException]:
    """Returns the answer, or the type of the error."""
    try:
        return await question
    except (TimeoutError, Failure) as error:
        return type(error)


EXPECTED: dict[str, tuple[object, object]] = {
    "tok_ok": (Succeeded, Succeeded),
    "tok_slow": (Succeeded, Succeeded),
    "tok_ok_late": (Pending, Pending),
    "tok_declined_insufficient_funds": ("insufficient_funds", "insufficient_funds"),
    "tok_declined_expired_card": ("expired_card", "expired_card"),
    "tok_declined_stolen": ("stolen_card", "stolen_card"),
    "tok_declined_late": (Pending, Pending),
    "tok_timeout_charged": (TimeoutError, Succeeded),
    "tok_timeout_not_charged": (TimeoutError, Succeeded),
    "tok_unavailable_once": (Deferred, Succeeded),
    "tok_unavailable": (Deferred, Deferred),
    "tok_capture_declined": (Succeeded, Succeeded),
    "tok_capture_timeout": (Succeeded, Succeeded),
    "tok_void_declined": (Succeeded, Succeeded),
    "tok_void_timeout": (Succeeded, Succeeded),
    "tok_refund_declined": (Succeeded, Succeeded),
    "tok_refund_declined_once": (Succeeded, Succeeded),
    "tok_refund_late": (Succeeded, Succeeded),
    "tok_refund_declined_late": (Succeeded, Succeeded),
    "tok_refund_timeout": (Succeeded, Succeeded),
    "tok_refund_lost": (Succeeded, Succeeded),
    "tok_refund_unavailable_once": (Succeeded, Succeeded),
}
# The same of refunds, and of voids.
GIVEN_BACK: dict[str, tuple[object, object]] = {
    "tok_ok": (Succeeded, Succeeded),
    "tok_refund_declined": ("card_closed", "card_closed"),
    "tok_refund_declined_once": ("card_closed", "card_closed"),
    "tok_refund_late": (Pending, Pending),
    "tok_refund_declined_late": (Pending, Pending),
    "tok_refund_timeout": (TimeoutError, Succeeded),
    "tok_refund_lost": (TimeoutError, Succeeded),
    "tok_refund_unavailable_once": (Deferred, Succeeded),
}
VOIDED: dict[str, tuple[object, object]] = {
    "tok_ok": (Succeeded, Succeeded),
    "tok_void_declined": ("authorization_expired", "authorization_expired"),
    "tok_void_timeout": (TimeoutError, Succeeded),
}


async def test_each_token_charges_as_its_table_says(sandbox: Sandbox) -> None:
    """The table has the answer of the first request with a key, and of its repeat; a new token
    needs its line above.
    """

    async def twice(name: str) -> tuple[object, object]:
        request = charge(name)
        return seen(await ask(sandbox.authorize(request))), seen(
            await ask(sandbox.authorize(request))
        )

    answers = await asyncio.gather(*(twice(name) for name in TOKENS))
    assert dict(zip(TOKENS, answers, strict=True)) == EXPECTED


async def test_each_token_refunds_and_voids_as_its_table_says(sandbox: Sandbox) -> None:
    """The tables have the answer of the first request with a key, and of its repeat. A token with
    an effect on refunds or voids needs its line above.
    """

    async def refunded(name: str) -> tuple[object, object]:
        key, reference = uuid4(), await done(sandbox, name)
        return seen(await ask(sandbox.refund(key, reference, 100))), seen(
            await ask(sandbox.refund(key, reference, 100))
        )

    async def voided(name: str) -> tuple[object, object]:
        key, reference = uuid4(), await done(sandbox, name, capture=False)
        return seen(await ask(sandbox.void(key, reference))), seen(
            await ask(sandbox.void(key, reference))
        )

    affected = [
        token
        for token in TOKENS.values()
        if token.refund_code or token.refund_fault or token.refund_pending
    ]
    assert GIVEN_BACK.keys() == {"tok_ok", *(token.name for token in affected)}
    assert VOIDED.keys() == {
        "tok_ok",
        *(token.name for token in TOKENS.values() if token.void_code or token.void_fault),
    }
    answers = await asyncio.gather(*map(refunded, GIVEN_BACK))
    assert dict(zip(GIVEN_BACK, answers, strict=True)) == GIVEN_BACK
    answers = await asyncio.gather(*map(voided, VOIDED))
    assert dict(zip(VOIDED, answers, strict=True)) == VOIDED


async def done(sandbox: Sandbox, name: str = "tok_ok", *, capture: bool = True) -> str:
    """Returns the reference of a charge, or an authorisation, of 100."""
    answer = await sandbox.authorize(charge(name, capture=capture))
    assert isinstance(answer, Succeeded)
    return answer.reference


async def test_refund_beyond_the_captured_amount_is_declined(
    sandbox: Sandbox, ledger: LedgerReader
) -> None:
    """Twenty refunds of 30 come at once, each sent twice: three succeed, the others are declined. A
    late refund counts from its request on.
    """
    reference, keys = await done(sandbox), [uuid4() for _ in range(20)]
    answers = await asyncio.gather(*(sandbox.refund(key, reference, 30) for key in [*keys, *keys]))
    assert answers[:20] == answers[20:]
    assert sorted(map(str, map(seen, answers[:20]))) == sorted(
        [str(Succeeded)] * 3 + [sandbox_ledger.EXCEEDS_REMAINING] * 17
    )
    assert await ledger.refunded_and_voided() == {"refund": 90}
    late = await done(sandbox, "tok_refund_late")
    assert isinstance(await sandbox.refund(uuid4(), late, 60), Pending)
    await sandbox.refund(overdrawn := uuid4(), late, 60)
    settled = await memory_settled(sandbox, overdrawn)
    assert seen(settled) == sandbox_ledger.EXCEEDS_REMAINING
    with pytest.raises(ValueError, match="done no 101"):
        await sandbox.refund(uuid4(), reference, 101)


async def memory_settled(sandbox: Sandbox, key: UUID) -> Answer:
    """Returns the outcome of a pending entry, after it has become due."""
    async with sandbox.ledger.engine.begin() as connection:
        await connection.execute(
            text(
                "update sandbox.operations set due_time = clock_timestamp() where state = 'pending'"
            )
        )
    await sandbox.ledger.settle_due()
    answer = await sandbox.lookup(key)
    assert answer
    return answer


async def test_authorization_is_either_captured_or_voided(
    sandbox: Sandbox, ledger: LedgerReader
) -> None:
    """One of the two succeeds, also at the same moment: the other is declined."""
    for _ in range(10):
        reference = await done(sandbox, capture=False)
        answers = await asyncio.gather(
            sandbox.capture(uuid4(), reference, 100), sandbox.void(uuid4(), reference)
        )
        assert sorted(str(seen(answer)) for answer in answers) == sorted(
            [str(Succeeded), sandbox_ledger.EXCEEDS_REMAINING]
        )
    assert (await ledger.charged())["capture"] + (await ledger.refunded_and_voided())[
        "void"
    ] == 1_000


def seen(answer: Answer | type[BaseException]) -> object:
    """Returns the code of a decline, or the type of any other answer."""
    return (
        answer.code
        if isinstance(answer, Declined)
        else answer
        if isinstance(answer, type)
        else type(answer)
    )


def test_sandbox_is_a_processor(sandbox: Sandbox) -> None:
    """The sandbox has the port's methods, as mypy checks them."""
    processor: Processor = sandbox
    assert processor is sandbox


async def test_repeated_key_is_charged_once(sandbox: Sandbox, ledger: LedgerReader) -> None:
    """Twenty requests at once, and one after a restart: one charge, one answer."""
    request = charge()
    answers = await asyncio.gather(*(sandbox.authorize(request) for _ in range(20)))
    restarted = Sandbox(sandbox.ledger, bytes(32))
    assert {*answers, await restarted.authorize(request), await restarted.lookup(request.key)} == {
        answers[0]
    }
    assert await ledger.charged() == {"charge": 100}


async def test_unreachable_ledger_is_a_processor_without_answer() -> None:
    """The outcome is unknown and is looked up like any lost answer; the answer is no INTERNAL
    error.
    """
    unreachable = Sandbox(Ledger(connect("postgresql://unknown@127.0.0.1:1/nothing")), bytes(32))
    request = charge()
    assert await ask(unreachable.authorize(request)) is TimeoutError
    with pytest.raises(TimeoutError):
        await unreachable.lookup(request.key)


async def test_key_with_another_request_is_refused(sandbox: Sandbox) -> None:
    """Another amount under the same key is a defect of the caller, and charges nothing."""
    request = charge()
    await sandbox.authorize(request)
    with pytest.raises(ValueError, match="used before"):
        await sandbox.authorize(
            Authorization(key=request.key, token="tok_ok", amount=101, currency="GBP", capture=True)
        )


async def test_abandoned_request_is_never_charged(sandbox: Sandbox, ledger: LedgerReader) -> None:
    """A request that arrives after its abandonment is declined; one that arrived before keeps its
    answer.
    """
    late, early = charge(), charge()
    assert await sandbox.lookup(late.key) is None
    abandoned = await sandbox.abandon(late.key)
    assert isinstance(abandoned, Declined)
    assert abandoned.code == NOT_PROCESSED
    assert await sandbox.authorize(late) == abandoned
    done = await sandbox.authorize(early)
    assert await sandbox.abandon(early.key) == done
    assert await ledger.charged() == {"charge": 100}


async def test_abandonment_during_a_charge_has_one_outcome(
    sandbox: Sandbox, ledger: LedgerReader
) -> None:
    """In both orders, the two calls get the same answer, and the ledger agrees with it."""
    for _ in range(20):
        request = charge()
        one, other = await asyncio.gather(sandbox.authorize(request), sandbox.abandon(request.key))
        assert one == other == await sandbox.lookup(request.key)
    assert (await ledger.charged())["charge"] % 100 == 0


async def test_capture_is_done_once_within_the_authorized_amount(
    sandbox: Sandbox, ledger: LedgerReader
) -> None:
    """The capture names the authorisation's reference, and a repeat captures nothing more. A larger
    amount than the authorised one is a defect of the caller.
    """
    authorized = await sandbox.authorize(charge(capture=False))
    assert isinstance(authorized, Succeeded)
    assert not await ledger.charged()
    key = uuid4()
    assert await sandbox.capture(key, authorized.reference, 100) == await sandbox.capture(
        key, authorized.reference, 100
    )
    assert await ledger.charged() == {"capture": 100}
    with pytest.raises(ValueError, match="done no 101"):
        await sandbox.capture(uuid4(), authorized.reference, 101)


@pytest.mark.parametrize(
    ("name", "said"), [("tok_refund_late", Succeeded), ("tok_refund_declined_late", Declined)]
)
async def test_pending_refunds_are_reported_by_webhook(
    name: str, said: type[Answer], sandbox: Sandbox, eventually: Eventually
) -> None:
    """The webhook is signed, and reads back as the same answer."""
    key, reference = uuid4(), await done(sandbox, name)
    await sandbox.refund(key, reference, 40)
    received: list[tuple[str, Report]] = []

    async def receive(body: bytes, headers: Mapping[str, str]) -> None:
        received.append(
            (json.loads(body)["type"], sandbox.parse_webhook(body, headers, datetime.now(UTC)))
        )

    async def taken() -> bool:
        await sandbox.run_once(receive)
        return bool(received)

    await eventually(taken)
    [(kind, report)] = received
    assert (kind.partition(".")[0], report.operation_id, type(report.answer)) == (
        "refund",
        key,
        said,
    )
    assert await sandbox.lookup(key) == report.answer


@pytest.mark.parametrize(
    ("name", "said"), [("tok_ok_late", Succeeded), ("tok_declined_late", Declined)]
)
async def test_late_answer_is_sent_by_webhook_until_accepted(
    name: str, said: type[Answer], sandbox: Sandbox, memory: AsyncEngine, eventually: Eventually
) -> None:
    """The sandbox sends the same signed event once, also after a restart, and again while the
    receiver fails.
    """
    request = charge(name)
    awaited = await sandbox.authorize(request)
    assert isinstance(awaited, Pending)
    received: list[Report] = []
    restarted = Sandbox(Ledger(memory), bytes(range(32)))

    async def receive(body: bytes, headers: Mapping[str, str]) -> None:
        received.append(sandbox.parse_webhook(body, headers, datetime.now(UTC)))
        if len(received) == 1:
            raise Deferred("DEPENDENCY_UNAVAILABLE")

    async def taken() -> bool:
        await restarted.run_once(receive)
        await make_due(memory)
        return len(received) == 2

    await eventually(taken)
    await restarted.run_once(receive)
    assert len(received) == 2
    assert received[0] == received[1]
    assert (received[0].operation_id, type(received[0].answer)) == (request.key, said)
    assert await restarted.lookup(request.key) == received[0].answer


async def test_replicas_of_the_sandbox_send_each_webhook_once(
    sandbox: Sandbox, memory: AsyncEngine, eventually: Eventually
) -> None:
    """Concurrent workers share the due webhooks; none sends one that another is sending."""
    keys = [
        (request := charge("tok_ok_late"), await sandbox.authorize(request))[0].key
        for _ in range(10)
    ]
    received: list[UUID] = []

    async def receive(body: bytes, headers: Mapping[str, str]) -> None:
        received.append(sandbox.parse_webhook(body, headers, datetime.now(UTC)).operation_id)

    async def all_taken() -> bool:
        await asyncio.gather(*(sandbox.run_once(receive) for _ in range(4)))
        return len(received) >= len(keys)

    await eventually(all_taken)
    assert sorted(received) == sorted(keys)


async def make_due(memory: AsyncEngine) -> None:
    """Makes the next try of a webhook due."""
    async with memory.begin() as connection:
        await connection.exec_driver_sql("update sandbox.webhooks set due_time = clock_timestamp()")


@pytest.mark.parametrize(
    "name", [token.name for token in TOKENS.values() if token.capture_code or token.capture_fault]
)
async def test_failed_capture_answers_its_outcome_to_a_repeat(
    name: str, sandbox: Sandbox, ledger: LedgerReader
) -> None:
    """A capture is declined, or succeeds with its answer lost: a repeat with the same key gets the
    outcome.
    """
    authorized = await sandbox.authorize(charge(name, capture=False))
    assert isinstance(authorized, Succeeded)
    key, lost = uuid4(), TOKENS[name].capture_fault is Fault.ANSWER_LOST
    first = await ask(sandbox.capture(key, authorized.reference, 100))
    again = await ask(sandbox.capture(key, authorized.reference, 100))
    assert (first is TimeoutError) == lost
    assert isinstance(again, Succeeded if lost else Declined)
    assert (await ledger.charged())["capture"] == (100 if lost else 0)


async def test_service_tables_hold_no_token(world: World) -> None:
    """The token of a payment method goes to the processor only: no row of the service has it."""
    token = "tok_declined_insufficient_funds"
    with pytest.raises(Refused):
        await world.pay(create_payment(await world.order(), token))
    async with world.ledger.engine.connect() as connection:
        for name in tables.metadata.tables:
            query = text(
                "select count(*) as all, count(*) filter (where t::text like :token) as with_token"
                f" from {name} t"
            )
            row = (await connection.execute(query, {"token": f"%{token}%"})).one()
            assert row.with_token == 0, name
            assert row.all or name in (
                "contradictions",
                "failed_events",
                "outbox",
                "stream_positions",
            ), name
