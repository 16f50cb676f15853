"""The tree of failures: complete, and each kind says what it is."""

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
    """Each has the name of a gRPC status, stands in the picture at the top of the file, and is
    refused or deferred, not both.
    """
    assert kind.code in grpc.StatusCode.__members__
    line = next(
        line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line
    )
    if kind is not Deferred:
        assert line.endswith(kind.code)
    assert issubclass(kind, Refused) != issubclass(kind, Deferred)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not Defect])
def test_a_failure_carries_what_it_was_given(kind: type[Failure]) -> None:
    """Reason, words, what varies in them, and what is wrong in particular."""
    violations = [Violation("items[2].sku", "unknown", "SKU")]
    failure = kind("SOME_REASON", "What happened.", violations=violations, order_id="7")
    assert (failure.reason, failure.message, str(failure)) == (
        "SOME_REASON",
        "What happened.",
        "What happened.",
    )
    assert failure.metadata == {"order_id": "7"}
    assert failure.violations == tuple(violations)


def test_a_defect_does_not_say_what_it_was() -> None:
    """What went wrong within us goes to the log: neither text nor metadata tell it."""
    defect = Defect(ValueError("secret"))
    assert (defect.reason, defect.message, defect.metadata) == ("INTERNAL", "", {})
    assert isinstance(defect.__cause__, ValueError)


def test_a_stale_version_has_its_reason() -> None:
    """All services answer a version that has moved on with the same reason."""
    assert Stale().reason == "VERSION_MISMATCH"


def test_an_outcome_is_a_record_or_is_raised() -> None:
    """Whoever wants the record of one command gets it, or the failure."""
    assert unwrap(Done(5)) == 5
    with pytest.raises(Refused, match="SOME_REASON"):
        unwrap(Refused("SOME_REASON"))


def test_deferred_says_when_to_come_again() -> None:
    """A second from now, unless told otherwise."""
    assert (
        Deferred("OVERLOADED").retry_after_s,
        Deferred("OVERLOADED", retry_after_s=5).retry_after_s,
    ) == (1.0, 5)
