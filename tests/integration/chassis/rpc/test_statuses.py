"""The status of every failure, as a client sees it over a real channel."""

from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from chassis.rpc.server import Server
from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Invalid,
    Refused,
    Violation,
)
from tests.rpc.calls import EVERY_WAY, unary
from tests.rpc.failures import FAILURES, details, kinds
from tests.rpc.sample import Sample, contract, plain_stub, serving


async def test_table_of_failures_is_whole() -> None:
    """The table has every kind of failure."""
    assert {type(failure) for failure, _ in FAILURES} == kinds()


@EVERY_WAY
@pytest.mark.parametrize(
    ("failure", "code"), FAILURES, ids=[type(failure).__name__ for failure, _ in FAILURES]
)
async def test_each_failure_has_its_status(
    sample: Sample, stub: Any, call: Any, failure: Failure, code: str
) -> None:
    """For every failure that a handler raises, unary or streaming, the client gets its code and one
    ErrorInfo of the system's domain with reason and metadata.

    A wrong request has BadRequest, other violations have PreconditionFailure, and a deferral has
    RetryInfo.
    """
    sample.fail(failure)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub)
    assert caught.value.code().name == code
    sent_details = details(caught.value)
    info = sent_details.pop("ErrorInfo")
    assert (info.domain, info.reason) == ("ordermesh", failure.reason)
    if isinstance(failure, Defect):
        assert set(info.metadata) == {"error_id"}
    else:
        assert dict(info.metadata) == failure.metadata
    if failure.violations and isinstance(failure, Invalid):
        (field,) = sent_details.pop("BadRequest").field_violations
        assert (field.field, field.description, field.reason) == (
            "SKU-1",
            "requested 3, sellable 1",
            "STOCK",
        )
    elif failure.violations:
        (broken,) = sent_details.pop("PreconditionFailure").violations
        assert (broken.subject, broken.description, broken.type) == (
            "SKU-1",
            "requested 3, sellable 1",
            "STOCK",
        )
    if isinstance(failure, Deferred):
        assert (
            sent_details.pop("RetryInfo").retry_delay.ToTimedelta().total_seconds()
            == failure.retry_after_s
        )
    assert not sent_details


@EVERY_WAY
async def test_text_of_an_exception_is_only_logged(sample: Sample, stub: Any, call: Any) -> None:
    """An exception that is no Failure is INTERNAL with an error id; its text is in the log beside
    that id and nowhere else.
    """
    sample.fail(ValueError("customer Jane Doe"))
    with capture_logs() as log, pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    sent = str(caught.value) + str(caught.value.trailing_metadata())
    assert "Jane" not in sent
    assert "ValueError" not in sent
    error_id = details(caught.value)["ErrorInfo"].metadata["error_id"]
    (line,) = [line for line in log if line.get("error_id") == error_id]
    assert str(line["exc_info"]) == "customer Jane Doe"


def _raw(method: Any) -> Any:
    """Returns a method that sends bytes unchanged, which its types do not declare."""
    return method


async def test_request_that_is_no_message_is_refused(server: Server) -> None:
    """Bytes that are not the method's request are INVALID_ARGUMENT, instead of gRPC's UNKNOWN with
    a parser's text.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(channel.unary_unary("/sample.v1.SampleService/GetThing"))(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["ErrorInfo"].reason == "VALIDATION_FAILED"


async def test_a_wrong_answer_is_a_defect(sample: Sample) -> None:
    """A handler that answers with an object that is no message has a defect: INTERNAL, without
    Python text in the message.
    """

    async def get(request: Any, context: Any) -> Any:
        return "just a text"

    sample.GetThing = get  # type: ignore[method-assign]  # the defect in question
    async with serving(sample) as server, plain_stub(server) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(stub)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "error_id" in str(caught.value)
    assert "str" not in str(caught.value.details())


async def test_each_bad_field_is_named(stub: Any) -> None:
    """A request that breaks several bounds is refused once, with the path of every field as a
    caller would write it, and its bound.
    """
    pb, _ = contract()
    request = pb.GetThingRequest(
        parts=[pb.Part(name="ok", quantity=1), pb.Part(name="much too long")],
        places={"top": pb.Part(name="a")},
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetThing(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    sent_details = details(caught.value)
    assert sent_details["ErrorInfo"].reason == "VALIDATION_FAILED"
    named = {
        violation.field: violation.description
        for violation in sent_details["BadRequest"].field_violations
    }
    assert set(named) == {
        "thing_id",
        "parts[1].name",
        "parts[1].quantity",
        "places['top'].quantity",
    }
    assert "8" in named["parts[1].name"]


@pytest.mark.parametrize("streams_answers", [False, True])
async def test_each_message_of_a_request_stream_is_validated(
    sample: Sample, stub: Any, streams_answers: bool
) -> None:
    """The second message of a request stream breaks its bound: the call ends with the field's
    name.
    """
    pb, _ = contract()
    if streams_answers:
        call = stub.EchoThings(
            [pb.EchoThingsRequest(thing_id="1"), pb.EchoThingsRequest()], timeout=5
        )
        assert await call.read()
        ended = call.read()
    else:
        ended = stub.CollectThings(
            [pb.CollectThingsRequest(thing_id="1"), pb.CollectThingsRequest()], timeout=5
        )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ended
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [
        violation.field for violation in details(caught.value)["BadRequest"].field_violations
    ] == ["thing_id"]


async def test_a_status_fits_into_any_clients_limits(sample: Sample, stub: Any) -> None:
    """With 500 violations the client still gets the status within its limit of 8 KiB: as many
    violations as fit, and their total.
    """
    violations = [
        Violation(
            f"Größe {number:03} \N{SNOWMAN}", "requested 1000, sellable 0", "INSUFFICIENT_STOCK"
        )
        for number in range(500)
    ]
    sample.fail(
        Refused("INSUFFICIENT_STOCK", "not enough of " + "\N{SNOWMAN}" * 400, violations=violations)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(stub)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    sent_details = details(caught.value)
    assert sent_details["ErrorInfo"].metadata["violations_total"] == "500"
    assert 30 < len(sent_details["PreconditionFailure"].violations) < 500
