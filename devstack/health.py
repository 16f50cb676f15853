"""Checks with grpc.health.v1 whether a gRPC service is SERVING."""

from grpc_health.v1 import health_pb2

from chassis.rpc.client import ask, connect
from chassis.values.errors import Failure

ANSWER_TIMEOUT_S = 2.0


async def serving(address: str) -> bool:
    """Returns whether the server at `address` (host:port) is SERVING; False without an answer in
    two seconds.
    """
    async with connect(address, services=()) as channel:
        # Spelt out: the published types of HealthStub leave its methods out.
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await ask(check, health_pb2.HealthCheckRequest(), timeout_s=ANSWER_TIMEOUT_S)
        except Failure:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
