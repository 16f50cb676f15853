"""The sample's contract, compiled once a process, and a server whose answers a test sets."""

import asyncio
import importlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import grpc
import grpc_tools
from grpc_tools import protoc

from chassis.rpc.server import Server
from tests.servers import quick_server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@cache
def contract() -> tuple[Any, Any]:
    """The generated modules: the messages, and what gRPC adds."""
    protos = [HERE, ROOT / "third_party/protovalidate", Path(grpc_tools.__file__).parent / "_proto"]
    with tempfile.TemporaryDirectory(prefix="ordermesh-sample-") as folder:
        out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        code = protoc.main(
            ["protoc", *(f"-I{path}" for path in protos), *out, str(HERE / "sample.proto")]
        )
        assert code == 0, "sample.proto does not compile"
        sys.path.append(folder)
        try:
            return importlib.import_module("sample_pb2"), importlib.import_module("sample_pb2_grpc")
        finally:
            sys.path.remove(folder)


class Sample:
    """A servicer whose methods do what a test says; by default they answer emptily. Streams of
    requests come as a list.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.behave: Callable[[], Awaitable[str]] = self.nothing

    async def nothing(self) -> str:
        """What it does unless a test says otherwise."""
        return ""

    def fail(self, error: BaseException) -> None:
        """From now on each call raises `error`; calls are counted anew."""

        async def behave() -> str:
            raise error

        self.behave, self.calls = behave, 0

    def hang(self) -> asyncio.Event:
        """From now on each call waits until it is cancelled, which sets the event; calls are
        counted anew.
        """
        cancelled = asyncio.Event()

        async def behave() -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return ""

        self.behave, self.calls = behave, 0
        return cancelled

    async def _text(self) -> str:
        self.calls += 1
        return await self.behave()

    async def GetThing(self, request: Any, context: Any) -> Any:
        return contract()[0].GetThingResponse(text=await self._text())

    async def CreateThing(self, request: Any, context: Any) -> Any:
        return contract()[0].CreateThingResponse(text=await self._text())

    async def TagThing(self, request: Any, context: Any) -> Any:
        await self._text()
        return contract()[0].TagThingResponse()

    async def KickThing(self, request: Any, context: Any) -> Any:
        await self._text()
        return contract()[0].KickThingResponse()

    async def ReleaseReservation(self, request: Any, context: Any) -> Any:
        await self._text()
        return contract()[0].ReleaseReservationResponse()

    async def WatchThing(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield contract()[0].WatchThingResponse(text="first")
        yield contract()[0].WatchThingResponse(text=await self._text())

    async def CollectThings(self, requests: AsyncIterator[Any], context: Any) -> Any:
        ids = [request.thing_id async for request in requests]
        return contract()[0].CollectThingsResponse(text=",".join(ids) + await self._text())

    async def EchoThings(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield contract()[0].EchoThingsResponse(text=request.thing_id + await self._text())


@asynccontextmanager
async def serving(
    sample: Sample, address: str = "127.0.0.1:0", **settings: Any
) -> AsyncIterator[Server]:
    """A server of `sample`, drained quickly."""
    register = partial(contract()[1].add_SampleServiceServicer_to_server, sample)
    async with quick_server([register], address, **{"drain_grace_s": 2} | settings) as server:
        yield server


@asynccontextmanager
async def plain_stub(server: Server) -> AsyncIterator[Any]:
    """A stub on a channel without anything of ours, as any client has it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield contract()[1].SampleServiceStub(channel)
