"""Whether a gRPC service serves, as grpc.health.v1 tells it. Nothing of ours is called here."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2

ANSWER_TIMEOUT_S = 2.0


async def serving(address: str) -> bool:
    """Whether the server at `address` (host:port) answers that it is SERVING; False where nobody answers in two seconds."""
    host, _, port = address.rpartition(":")
    try:
        # First without gRPC, whose channels wait ever longer between their attempts to connect.
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    async with grpc.aio.insecure_channel(address) as channel:
        # Spelt out: the published types of HealthStub leave its methods out.
        check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=ANSWER_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
