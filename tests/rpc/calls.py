"""One call of each kind to the sample, on a stub. No tests here."""

from typing import Any

import pytest

from tests.rpc.sample import contract


async def unary(stub: Any) -> None:
    await stub.GetThing(contract()[0].GetThingRequest(thing_id="1"), timeout=5)


async def stream(stub: Any) -> None:
    async for _ in stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"), timeout=5):
        pass


async def collect(stub: Any) -> None:
    await stub.CollectThings([contract()[0].CollectThingsRequest(thing_id="1")], timeout=5)


async def echo(stub: Any) -> None:
    async for _ in stub.EchoThings([contract()[0].EchoThingsRequest(thing_id="1")], timeout=5):
        pass


EVERY_WAY = pytest.mark.parametrize("call", [unary, stream, collect, echo])
