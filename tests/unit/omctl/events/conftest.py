"""`omctl events` against services whose answers the test sets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from ordermesh.ops.v1.ops_service_pb2_grpc import (
    add_FailedEventServiceServicer_to_server,
    add_OutboxServiceServicer_to_server,
)

from tests.unit.omctl.events.server import Fake, Omctl


@pytest.fixture
def omctl() -> Iterator[Omctl]:
    """The command line, with the order service on one port and the other four on another."""
    made: Any = Fake
    order, others = made(), made()
    servers, addresses = [], []
    for fake in (order, others):
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_FailedEventServiceServicer_to_server(fake, server)
        add_OutboxServiceServicer_to_server(fake, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        servers.append(server)
    yield Omctl(order, others, (addresses[0], addresses[1]))
    for server in servers:
        server.stop(None).wait()
