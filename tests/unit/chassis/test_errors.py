"""The classes of failures: complete, and each with its own gRPC status."""

import grpc
import pytest

from chassis.values import errors
from chassis.values.decision import Done, unwrap
from chassis.values.errors import Defect, Deferred, Failure, Refused, Stale, Violation

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Failure) and kind is not Failure
]


def make(kind: type[Failure]) -> Failure:
    return (
        Defect(ZeroDivisionError())
        if kind is Defect
        else kind("SOME_REASON", "What happened.", order_id="7")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_failure_is_a_status(kind: type[Failure]) -> None:
    """Each failure has the name of a gRPC status, is listed in the docstring of its module, and is
    either refused or deferred.
    """
    assert kind.code in grpc.StatusCode.__members__
    line = next(
        line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line
    )
    if kind is not Deferred:
        assert line.endswith(kind.code)
    assert issubclass(kind, Refused) != issubclass(kind, Deferred)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not Defect])
def test_failure_has_its_reason_text_and_metadata(kind: type[Failure]) -> None:
    """A failure has its reason, message, metadata and violations."""
    violations = [Violation("items[2].sku", "unknown", "SKU")]
    failure = kind("SOME_REASON", "What happened.", violations=violations, order_id="7")
    assert (failure.reason, failure.message, str(failure)) == (
        "SOME_REASON",
        "What happened.",
        "What happened.",
    )
    assert failure.metadata == {"order_id": "7"}
    assert failure.violations == tuple(violations)


def test_defect_hides_its_cause() -> None:
    """Only the log has the cause of a defect: text and metadata hide it."""
    defect = Defect(ValueError("secret"))
    assert (defect.reason, defect.message, defect.metadata) == ("INTERNAL", "", {})
    assert isinstance(defect.__cause__, ValueError)


def test_stale_version_has_one_reason() -> None:
    """All services answer an outdated version with the same reason."""
    assert Stale().reason == "VERSION_MISMATCH"


def test_unwrap_returns_the_record_or_raises() -> None:
    """The caller gets the record of one command, or its failure is raised."""
    assert unwrap(Done(record=5)) == 5
    with pytest.raises(Refused, match="SOME_REASON"):
        unwrap(Refused("SOME_REASON"))


def test_deferred_has_a_retry_time() -> None:
    """The retry time is one second by default."""
    assert (
        Deferred("OVERLOADED").retry_after_s,
        Deferred("OVERLOADED", retry_after_s=5).retry_after_s,
    ) == (1.0, 5)
