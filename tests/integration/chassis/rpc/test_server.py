"""A server over a real channel: its address, its standard services, and the claimed actor."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chassis.rpc.server import Server
from chassis.values.actor import claimed_actor
from tests.rpc.failures import details
from tests.rpc.sample import Sample, contract, plain_stub, serving


def _raw(method: Any) -> Any:
    """Returns a method that sends bytes unchanged, which its types do not declare."""
    return method


async def test_taken_port_is_named_in_the_error(server: Server, sample: Sample) -> None:
    """A second server on the address does not share it silently: it fails, and names the address
    and its variable.
    """
    with pytest.raises(
        OSError, match=f"LISTEN_ADDRESS 127.0.0.1:{server.port} cannot be listened on"
    ):
        async with serving(sample, f"127.0.0.1:{server.port}"):
            pass


async def test_health_and_reflection(server: Server) -> None:
    """Health answers for the process and for each service, also to callers without a deadline;
    reflection answers under both its names.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "sample.v1.SampleService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for version in ("v1", "v1alpha"):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            requests = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(
                    file_containing_symbol="sample.v1.SampleService"
                ),
            ]
            names, file = [answer async for answer in ask(iter(requests))]
            listed = {service.name for service in names.list_services_response.service}
            assert listed == {
                "sample.v1.SampleService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1alpha.ServerReflection",
            }
            assert file.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off(sample: Sample) -> None:
    """With reflection off no caller can read the contracts."""
    async with (
        serving(sample, reflection=False) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        ask = _raw(
            channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(iter([b""])).read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_channelz_lists_servers(sample: Sample) -> None:
    """With channelz on, a client can list the process's servers."""
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    async with (
        serving(sample, channelz=True) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        answer = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest()
        )
    assert answer.server


async def test_claimed_actor_reaches_the_handler(sample: Sample) -> None:
    """A handler reads the call's own claimed actor, from the metadata ordermesh-actor; a call
    without one has none.
    """
    seen: list[str | None] = []

    async def behave() -> str:
        seen.append(claimed_actor())
        return ""

    sample.behave = behave
    async with serving(sample) as server, plain_stub(server) as stub:
        request = contract()[0].GetThingRequest(thing_id="1")
        for metadata in (
            [("ordermesh-actor", "staff:7f3a")],
            [],
            [("ordermesh-actor", "customer:A-b_c.9")],
        ):
            await stub.GetThing(request, timeout=5, metadata=metadata)
    assert seen == ["staff:7f3a", None, "customer:A-b_c.9"]


@pytest.mark.parametrize(
    "values",
    [
        ["anna"],
        ["admin:anna"],
        ["staff:"],
        ["staff:" + "a" * 65],
        ["staff:anna b"],
        ["staff:a@b.de"],
        ["staff:a", "staff:b"],
    ],
)
async def test_malformed_actor_is_refused(sample: Sample, values: list[str]) -> None:
    """A claimed actor that breaks the pattern, or comes twice, is VALIDATION_FAILED and names the
    metadata key; no handler runs.
    """
    async with serving(sample) as server, plain_stub(server) as stub:
        metadata = [("ordermesh-actor", value) for value in values]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetThing(
                contract()[0].GetThingRequest(thing_id="1"), timeout=5, metadata=metadata
            )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    sent_details = details(caught.value)
    assert sent_details["ErrorInfo"].reason == "VALIDATION_FAILED"
    assert [violation.field for violation in sent_details["BadRequest"].field_violations] == [
        "ordermesh-actor"
    ]
    assert sample.calls == 0
