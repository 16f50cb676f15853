"""The calls that gRPC retries: those that are safe to repeat.

chassis/rpc/client.py gives the service config to its channels.
"""

import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

READS: Final = ("Get", "List", "BatchGet", "Check")
# The order service makes three tries of its own (with gRPC's there would be nine).
NEVER_RETRIED: Final = frozenset({"ReleaseReservation", "BatchReleaseReservations"})
RETRY_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# Retries stop when more than a tenth of all calls fail, so that they never double the load on a
# peer in trouble.
RETRY_THROTTLING: Final = {"maxTokens": 100, "tokenRatio": 0.1}


def service_config(services: Iterable[ServiceDescriptor]) -> dict[str, Any]:
    """Returns gRPC's service config: which methods of `services` it retries, and how."""
    names = [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if is_safe(method)
    ]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": names, "retryPolicy": RETRY_POLICY}] if names else [],
        "retryThrottling": RETRY_THROTTLING,
    }


def is_safe(method: MethodDescriptor) -> bool:
    """Returns whether a call may be repeated when it is unknown whether it was executed: a read, or
    a change with a request_id. Streams are not.
    """
    if method.server_streaming or method.client_streaming or method.name in NEVER_RETRIED:
        return False
    return method.name.startswith(READS) or "request_id" in method.input_type.fields_by_name


@cache
def published_services() -> tuple[ServiceDescriptor, ...]:
    """Returns every service in the generated contracts."""
    root = importlib.import_module("ordermesh").__path__
    files = sorted(
        {
            file.relative_to(folder)
            for folder in root
            for file in Path(folder).rglob("*_service_pb2.py")
        }
    )
    modules = [
        importlib.import_module(".".join(("ordermesh", *file.with_suffix("").parts)))
        for file in files
    ]
    return tuple(
        service for module in modules for service in module.DESCRIPTOR.services_by_name.values()
    )
