"""The signature of webhooks by Standard Webhooks, and the content of the sandbox's webhooks."""

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.values.errors import Failure, Invalid, Unauthenticated
from payment_svc.model.answers import Answer, Declined, Pending, Report, Succeeded
from payment_svc.providers import webhooks
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry, Ledger

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
BODY = b'{"amount": 1}'
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HEADERS = webhooks.sign(KEY, "evt_1", NOW, BODY)


def test_signature_equals_the_example_of_the_standard() -> None:
    """The example of the Standard Webhooks specification's reference libraries: the same secret,
    id, time and body have the same signature.
    """
    key = webhooks.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    time = datetime.fromtimestamp(1614265330, UTC)
    headers = webhooks.sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signed_webhook_is_accepted() -> None:
    """The signature is accepted also beside a second key's during a rotation, or one of another
    version.
    """
    assert webhooks.verify(KEY, HEADERS, NOW, BODY) == "evt_1"
    several = f"v1a,xyz v1,{'A' * 44} {HEADERS['webhook-signature']}"
    assert webhooks.verify(KEY, HEADERS | {"webhook-signature": several}, NOW, BODY) == "evt_1"


@pytest.mark.parametrize("away", [timedelta(minutes=5), timedelta(minutes=-5)])
def test_five_minutes_either_way_are_allowed(away: timedelta) -> None:
    """Clocks differ by up to five minutes; a greater difference is a replay, or a sender with a
    wrong clock.
    """
    assert webhooks.verify(KEY, HEADERS, NOW + away, BODY) == "evt_1"
    with pytest.raises(Unauthenticated):
        webhooks.verify(
            KEY,
            HEADERS,
            NOW + away + (timedelta(seconds=1) if away > timedelta(0) else timedelta(seconds=-1)),
            BODY,
        )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (HEADERS, b'{"amount": 2}'),
        (HEADERS | {"webhook-id": "evt_2"}, BODY),
        (HEADERS | {"webhook-timestamp": str(int(NOW.timestamp()) + 1)}, BODY),
        (HEADERS | {"webhook-timestamp": "soon"}, BODY),
        (HEADERS | {"webhook-timestamp": "9" * 5000}, BODY),
        (HEADERS | {"webhook-timestamp": "-1"}, BODY),
        (HEADERS | {"webhook-timestamp": "٤"}, BODY),
        (HEADERS | {"webhook-id": ""}, BODY),
        (HEADERS | {"webhook-signature": ""}, BODY),
        (HEADERS | {"webhook-signature": "v1"}, BODY),
        (HEADERS | {"webhook-signature": "v1,"}, BODY),
        (HEADERS | {"webhook-signature": "v1,é"}, BODY),
        (HEADERS | {"webhook-signature": HEADERS["webhook-signature"].replace("v1", "v2")}, BODY),
        (webhooks.sign(OTHER_KEY, "evt_1", NOW, BODY), BODY),
    ],
)
def test_altered_webhook_is_refused(headers: dict[str, str], body: bytes) -> None:
    """The signature covers body, id and time. Any input of a stranger raises the same error."""
    with pytest.raises(Unauthenticated) as refused:
        webhooks.verify(KEY, headers, NOW, body)
    assert refused.value.reason == "WEBHOOK_SIGNATURE_INVALID"


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64", base64.b64encode(KEY).decode()]
)
def test_weak_secret_is_refused_before_its_use(secret: str) -> None:
    """A secret is whsec_ and at least 24 bytes in base64; the error does not have it."""
    with pytest.raises(ValueError, match="webhook secret") as refused:
        webhooks.key_of(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(refused.value)


# --- the sandbox's


@pytest.fixture
def sandbox() -> Sandbox:
    """The sandbox over a database without any call."""
    return Sandbox(
        Ledger(create_async_engine("postgresql+psycopg://unknown@127.0.0.1:1/none")), KEY
    )


def entry(state: str, code: str | None = None) -> Entry:
    return Entry(
        key=UUID(int=7),
        kind="charge",
        state=state,
        request_hash=b"",
        token="tok_ok_late",
        amount=100,
        code=code,
        final=code == "stolen_card",
    )


@pytest.mark.parametrize(
    ("settled", "answer"),
    [
        (entry("succeeded"), Succeeded(f"sbx_{UUID(int=7).hex}")),
        (
            entry("declined", "insufficient_funds"),
            Declined("insufficient_funds", False, f"sbx_{UUID(int=7).hex}"),
        ),
        (entry("declined", "stolen_card"), Declined("stolen_card", True, f"sbx_{UUID(int=7).hex}")),
    ],
)
def test_webhook_of_the_sandbox_has_its_answer(
    sandbox: Sandbox, settled: Entry, answer: Succeeded | Declined
) -> None:
    """The webhook is read as the processor's answer, with the same id in each delivery."""
    first, again = (
        sandbox.webhook(settled, NOW),
        sandbox.webhook(settled, NOW + timedelta(minutes=1)),
    )
    assert sandbox.parse_webhook(*first, NOW) == Report(
        f"evt_{UUID(int=7).hex}", UUID(int=7), answer
    )
    assert first[0] == again[0]
    assert first[1]["webhook-id"] == again[1]["webhook-id"]


def test_content_hash_differs_by_content_and_is_stable() -> None:
    """Reports of three answers to one operation differ, and so do those of one answer to two
    operations. The expected hashes are constants, not computed by the code under test.
    """
    answers: list[Answer] = [
        Succeeded("r"),
        Pending("r"),
        Declined("r"),
        Declined("r", final=True),
        Declined("r", reference="r"),
    ]
    reports = [Report("e", UUID(int=7), answer) for answer in answers] + [
        Report("e", UUID(int=8), answers[0])
    ]
    assert len({report.content_hash for report in reports}) == len(reports)
    assert Report("another", UUID(int=7), answers[0]).content_hash == reports[0].content_hash
    assert (
        reports[0].content_hash.hex()
        == "7815fdd8728059a160ca12a2ed74d09eb9bf9c9b056014388673d1fd8749574f"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"type": []}',
        json.dumps(
            {"type": "payment.exploded", "key": str(UUID(int=7)), "reference": "r"}
        ).encode(),
        json.dumps({"type": "payment.succeeded", "key": "seven", "reference": "r"}).encode(),
        json.dumps({"type": "payment.succeeded", "key": 7, "reference": "r"}).encode(),
        json.dumps(
            {"type": "payment.declined", "key": str(UUID(int=7)), "reference": "r"}
        ).encode(),
    ],
)
def test_signed_unreadable_webhook_is_malformed(sandbox: Sandbox, body: bytes) -> None:
    """For an unknown type of event, or an invalid body, the sender gets an error, and nothing is
    posted.
    """
    with pytest.raises(Failure) as refused:
        sandbox.parse_webhook(body, webhooks.sign(KEY, "evt_1", NOW, body), NOW)
    assert (type(refused.value), refused.value.reason) == (Invalid, "WEBHOOK_MALFORMED")
