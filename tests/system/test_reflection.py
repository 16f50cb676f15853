"""The contracts as a reader with an address alone sees them."""

import asyncio
import os
import subprocess
from collections.abc import Mapping

import pytest

from devstack.stack import Stack
from tests.system.readme import HAS_GRPCURL, ROOT


@pytest.fixture(scope="module")
def environment() -> Mapping[str, str]:
    """The environment of a terminal, with grpcurl built."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    subprocess.run(["make", "--silent", "build/grpcurl"], cwd=ROOT, env=kept, check=True)
    return kept


@pytest.mark.skipif(
    not HAS_GRPCURL, reason="the pip package of grpcurl has a binary for Linux on x86-64 alone"
)
@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        ("ordermesh.order.v1.OrderService.CancelOrder", "ORDER_ALREADY_CANCELLED"),
        ("ordermesh.error.v1.ErrorReason", "// "),
        ("ordermesh.order.v1.CreateOrderRequest", "request_id"),
    ],
)
async def test_grpcurl_describe_prints_the_comment(
    stack: Stack, environment: Mapping[str, str], symbol: str, shown: str
) -> None:
    """`grpcurl describe` of a method, of the error reasons and of a message prints its comments."""
    output = await asyncio.to_thread(
        subprocess.run,
        ["build/grpcurl", "-plaintext", stack.addresses["order"], "describe", symbol],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output
    assert "//" in output.stdout
    assert shown in output.stdout
