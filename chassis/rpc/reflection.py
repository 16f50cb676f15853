"""Server reflection over the contracts as they were written: with comments, and with every symbol.

grpcio-reflection's servicer answers the requests. Its default pool has the descriptors of the
running process. Those have no comments, their look-up does not find methods, and they lack each
file that no code imports. So the servicer gets a pool of the contracts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha import reflection
from ordermesh.options.v1 import options_pb2

# Built by `make generate` beside the generated code: every contract and its imports, with comments.
IMAGE: Final = Path(options_pb2.__file__).parents[3] / "contracts.binpb"


def servicer(services: Sequence[str]) -> reflection.aio.ReflectionServicer:
    """Returns the servicer that answers about `services` and about every symbol of the image.

    A service that the image does not have (health, reflection itself) is taken from the process's
    descriptors. Raises OSError where the image cannot be read, KeyError for an unknown service.
    """
    pool: Any = _Contracts(services)
    return reflection.aio.ReflectionServicer(services, pool)


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the contracts, with the part of a FileDescriptor that the servicer reads. A
    FileDescriptor itself drops the comments.
    """

    name: str
    dependencies: Sequence["_File"]
    written: FileDescriptorProto

    def CopyToProto(self, proto: FileDescriptorProto) -> None:
        proto.CopyFrom(self.written)


class _Contracts:
    """The part of a DescriptorPool that the servicer uses."""

    def __init__(self, services: Iterable[str]) -> None:
        self._files: dict[str, _File] = {}
        self._pool = descriptor_pool.DescriptorPool()
        self.FindMessageTypeByName = self._pool.FindMessageTypeByName
        self.FindExtensionByNumber = self._pool.FindExtensionByNumber
        self.FindAllExtensions = self._pool.FindAllExtensions
        for file in FileDescriptorSet.FromString(IMAGE.read_bytes()).file:  # imports come first
            self._add(file)
        for service in services:
            self._add_running(descriptor_pool.Default().FindFileContainingSymbol(service))

    def FindFileByName(self, name: str) -> _File:
        return self._files[name]

    def FindFileContainingSymbol(self, symbol: str) -> _File:
        try:
            return self._files[self._pool.FindFileContainingSymbol(symbol).name]
        except KeyError:
            method = self._pool.FindMethodByName(symbol)
            return self._files[method.containing_service.file.name]

    def _add(self, file: FileDescriptorProto) -> None:
        self._pool.Add(file)
        imports = [self._files[name] for name in file.dependency]
        self._files[file.name] = _File(file.name, imports, file)

    def _add_running(self, file: FileDescriptor) -> None:
        """Adds a file of the process's descriptors, after its imports."""
        if file.name not in self._files:
            for imported in file.dependencies:
                self._add_running(imported)
            self._add(FileDescriptorProto.FromString(file.serialized_pb))
