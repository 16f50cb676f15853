"""The conversion of a failure to a status and back, and the size of a status."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.rpc.status import _REFUSALS, DETAILS_KEY, STATUS_BYTES_MAX, decode, encode
from chassis.values.convert import invalid_field
from chassis.values.errors import Defect, Deferred, Failure, Invalid, Overloaded, Refused, Violation

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VIOLATIONS = st.lists(st.builds(Violation, TEXT, TEXT, TEXT), max_size=4)


def _sent(failure: Failure) -> grpc.aio.AioRpcError:
    """Returns the failure as the client receives it."""
    code, message, trailing = encode(failure)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), message)


def _weight(error: grpc.aio.AioRpcError) -> int:
    """Returns the bytes on the wire: details in base64, and three for each byte of the message that
    is not plain.
    """
    details = len(error.trailing_metadata()[DETAILS_KEY])
    return -(-details * 4 // 3) + sum(
        1 if 0x20 <= byte < 0x7F else 3 for byte in (error.details() or "").encode()
    )


@given(
    st.sampled_from(sorted(_REFUSALS)), TEXT, st.dictionaries(TEXT, TEXT, max_size=3), VIOLATIONS
)
def test_refusal_survives_the_conversion(
    code: str, message: str, metadata: dict[str, str], violations: list[Violation]
) -> None:
    """Any refusal's class, reason, message, metadata and violations survive the conversion."""
    failure = _REFUSALS[code]("ILLEGAL_TRANSITION", message)
    failure.metadata, failure.violations = metadata, tuple(violations)
    got = decode(_sent(failure), "peer")
    assert type(got) is type(failure)
    assert (got.reason, got.message) == (failure.reason, message or failure.reason)
    assert (got.metadata, got.violations) == (metadata, tuple(violations))


def test_invalid_field_of_a_peer_comes_back_as_invalid() -> None:
    """A field that the peer finds invalid belongs to the peer's request: the caller gets Invalid
    alone.
    """
    got = decode(_sent(invalid_field("order_attempts", "must not be empty")), "peer")
    assert (type(got), got.reason) == (Invalid, "VALIDATION_FAILED")


@given(st.integers(0, 2_000), TEXT, TEXT, st.text(max_size=2_000))
def test_status_stays_within_its_size_limit(
    count: int, subject: str, description: str, message: str
) -> None:
    """For any number of violations and any length of message, a status is smaller than each
    client's limit. It keeps the reason, and has the number of violations when it leaves some out.
    """
    for kind in (Refused, Invalid):
        failure = kind(
            "INSUFFICIENT_STOCK", message, violations=[Violation(subject, description)] * count
        )
        error = _sent(failure)
        assert _weight(error) <= STATUS_BYTES_MAX
        got = decode(error, "peer")
        assert got.reason == "INSUFFICIENT_STOCK"
        assert len(got.violations) == count or got.metadata["violations_total"] == str(count)


@given(st.floats(0, 100_000))
def test_time_to_try_again_survives(seconds: float) -> None:
    """Deferred and Overloaded keep their retry time, to the microsecond."""
    for kind in (Deferred, Overloaded):
        got = decode(_sent(kind("OVERLOADED", retry_after_s=seconds)), "peer")
        assert isinstance(got, kind)
        assert abs(got.retry_after_s - seconds) < 1e-6


def test_details_of_another_domain_are_ignored() -> None:
    """A status with an unreadable ErrorInfo, or one of another domain, counts as one without. A
    refusal of that kind is a defect.
    """
    code, message, trailing = encode(Refused("ILLEGAL_TRANSITION"))
    foreign = trailing[0][1].replace(b"ordermesh", b"elsewhere")
    for details in (foreign, b"\xff\xff"):
        error = grpc.aio.AioRpcError(
            code, grpc.aio.Metadata(), grpc.aio.Metadata((DETAILS_KEY, details)), message
        )
        assert isinstance(decode(error, "peer"), Defect)


def test_dependency_behind_a_peer_is_named() -> None:
    """A service whose peer has no database passes that on: the text is the peer's, and `dependency`
    names the database.
    """
    away = Deferred("DEPENDENCY_UNAVAILABLE", "the database cannot be reached", peer="database")
    here = decode(_sent(away), "warehouse")
    assert (here.message, here.metadata["peer"], here.metadata["dependency"]) == (
        "warehouse: the database cannot be reached",
        "warehouse",
        "database",
    )
    there = decode(_sent(here), "order")
    assert (there.message, there.metadata["peer"], there.metadata["dependency"]) == (
        "order: warehouse: the database cannot be reached",
        "order",
        "database",
    )


def test_peer_without_an_answer_is_the_dependency() -> None:
    """If the peer of a peer did not answer, it is the named dependency."""
    silent = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no connection"
    )
    here = decode(silent, "warehouse")
    assert (here.message, "dependency" in here.metadata) == (
        "warehouse is not available just now",
        False,
    )
    assert decode(_sent(here), "order").metadata["dependency"] == "warehouse"


TOO_LARGE = "Received message larger than max (5242880 vs. 4194304)"


@pytest.mark.parametrize(("text", "kind"), [(TOO_LARGE, Defect), ("too much", Deferred)])
def test_grpcs_own_exhaustion_is_not_overload(text: str, kind: type[Failure]) -> None:
    """RESOURCE_EXHAUSTED without a reason is not OVERLOADED: a message over gRPC's limit is a
    defect, and a repeat fails too.
    """
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata(), text
    )
    assert type(decode(error, "peer")) is kind
