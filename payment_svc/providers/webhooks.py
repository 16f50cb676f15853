"""Standard Webhooks (https://www.standardwebhooks.com): how a processor's webhooks are signed, and
how a signature is checked.

The signature is an HMAC-SHA256 over `webhook-id.webhook-timestamp.body`; several may stand in the
header, separated by spaces.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from chassis.values.errors import Unauthenticated

TOLERANCE = timedelta(minutes=5)  # how far the sender's clock and ours may be apart, both ways
PREFIX = "whsec_"
KEY_BYTES_MIN = 24


def key_of(secret: str) -> bytes:
    """The signing key: `whsec_` and its base64. Raises ValueError where it is not that, or is
    shorter than 24 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"a webhook secret is {PREFIX} followed by base64") from None
    if not secret.startswith(PREFIX) or len(key) < KEY_BYTES_MIN:
        raise ValueError(
            f"a webhook secret is {PREFIX} followed by the base64 of at least {KEY_BYTES_MIN} bytes"
        )
    return key


def sign(key: bytes, event_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers of a webhook."""
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_signature(key, event_id, timestamp, body)}",
    }


def verify(key: bytes, headers: Mapping[str, str], now: datetime, body: bytes) -> str:
    """The event's id, once the signature is found right. Raises Unauthenticated
    WEBHOOK_SIGNATURE_INVALID.
    """
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (event_id and timestamp.isascii() and timestamp.isdecimal()) or len(timestamp) > 12:
        raise Unauthenticated(
            "WEBHOOK_SIGNATURE_INVALID", "The headers webhook-id and webhook-timestamp are needed."
        )
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE.total_seconds():
        raise Unauthenticated(
            "WEBHOOK_SIGNATURE_INVALID",
            "The webhook's timestamp is more than five minutes from now.",
        )
    expected = _signature(key, event_id, timestamp, body).encode()
    for signature in headers.get("webhook-signature", "").split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return event_id
    raise Unauthenticated("WEBHOOK_SIGNATURE_INVALID", "The webhook's signature is not right.")


def _signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
