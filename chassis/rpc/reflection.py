"""Server reflection over the contracts as they were written: with comments, and with every symbol.

It replaces grpcio-reflection's servicer, which answers from the running process's descriptors.
Those have no comments, its look-up does not find methods, and it does not find a file that no code
imports. The messages are the standard ones; source: grpc/reflection/v1alpha/reflection.proto.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from ordermesh.options.v1 import options_pb2

# Built by `make generate` beside the generated code: every contract and its imports, with comments.
IMAGE: Final = Path(options_pb2.__file__).parents[3] / "contracts.binpb"


class Reflection:
    """Answers the requests of a client about `services` and about every symbol of the image.

    A service that the image does not have (health, reflection itself) is taken from the process's
    descriptors. Raises OSError where the image cannot be read, KeyError for an unknown service.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = sorted(services)
        files = {file.name: file for file in FileDescriptorSet.FromString(IMAGE.read_bytes()).file}
        self._symbols = {symbol: name for name, file in files.items() for symbol in _symbols(file)}
        for service in self._services:
            if service not in self._symbols:
                self._add_running(service, files)
        self._imports = {name: tuple(file.dependency) for name, file in files.items()}
        self._bytes = {name: file.SerializeToString() for name, file in files.items()}
        self._extensions: dict[str, dict[int, str]] = {}
        for name, file in files.items():
            for extension in _extensions(file):
                of = extension.extendee.removeprefix(".")
                self._extensions.setdefault(of, {})[extension.number] = name

    def _add_running(self, service: str, files: dict[str, FileDescriptorProto]) -> None:
        """Adds the file that declares the service, and what it imports, from the process's
        descriptors.
        """
        waiting = [descriptor_pool.Default().FindFileContainingSymbol(service)]
        while waiting:
            running = waiting.pop()
            if running.name not in files:
                file = files[running.name] = FileDescriptorProto.FromString(running.serialized_pb)
                self._symbols |= dict.fromkeys(_symbols(file), file.name)
                waiting += running.dependencies

    async def ServerReflectionInfo(
        self,
        requests: AsyncIterator[ServerReflectionRequest],
        context: grpc.aio.ServicerContext[ServerReflectionRequest, ServerReflectionResponse],
    ) -> AsyncIterator[ServerReflectionResponse]:
        """Answers each request of the stream. A failed look-up is an answer, and the stream goes
        on.
        """
        async for request in requests:
            response = self._answer(request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            yield response

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            found = [ServiceResponse(name=name) for name in self._services]
            return ServerReflectionResponse(
                list_services_response=ListServiceResponse(service=found)
            )
        if kind == "all_extension_numbers_of_type":
            return self._extension_numbers(request.all_extension_numbers_of_type)
        if kind == "file_by_filename":
            return self._files(request.file_by_filename, request.file_by_filename)
        if kind == "file_containing_symbol":
            symbol = request.file_containing_symbol
            return self._files(self._symbols.get(symbol), symbol)
        if kind == "file_containing_extension":
            asked = request.file_containing_extension
            numbers = self._extensions.get(asked.containing_type, {})
            what = f"extension {asked.extension_number} of {asked.containing_type}"
            return self._files(numbers.get(asked.extension_number), what)
        return _error(grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing")

    def _files(self, name: str | None, what: str) -> ServerReflectionResponse:
        """Returns the file, and after it all its imports."""
        if name not in self._bytes:
            return _error(grpc.StatusCode.NOT_FOUND, f"{what[:200]} is not known here")
        wanted = [name]
        for each in wanted:
            wanted += [imported for imported in self._imports[each] if imported not in wanted]
        found = [self._bytes[each] for each in wanted]
        return ServerReflectionResponse(
            file_descriptor_response=FileDescriptorResponse(file_descriptor_proto=found)
        )

    def _extension_numbers(self, of: str) -> ServerReflectionResponse:
        if of not in self._symbols:
            return _error(grpc.StatusCode.NOT_FOUND, f"{of[:200]} is not known here")
        numbers = sorted(self._extensions.get(of, {}))
        found = ExtensionNumberResponse(base_type_name=of, extension_number=numbers)
        return ServerReflectionResponse(all_extension_numbers_response=found)


def _error(code: grpc.StatusCode, message: str) -> ServerReflectionResponse:
    number: int = code.value[0]
    return ServerReflectionResponse(
        error_response=ErrorResponse(error_code=number, error_message=message)
    )


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Yields the full names of all that a file declares, methods, fields and enum values
    included.
    """
    prefix = f"{file.package}." if file.package else ""
    for service in file.service:
        yield f"{prefix}{service.name}"
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)
    yield from (f"{prefix}{extension.name}" for extension in file.extension)
    yield from _of_enums(file.enum_type, prefix)
    for message in file.message_type:
        yield from _of_message(message, prefix)


def _of_message(message: DescriptorProto, prefix: str) -> Iterator[str]:
    name = f"{prefix}{message.name}"
    yield name
    for part in (message.field, message.oneof_decl, message.extension):
        yield from (f"{name}.{each.name}" for each in part)
    yield from _of_enums(message.enum_type, f"{name}.")
    for nested in message.nested_type:
        yield from _of_message(nested, f"{name}.")


def _of_enums(enums: Iterable[EnumDescriptorProto], prefix: str) -> Iterator[str]:
    """Yields enums and their values; a value's full name is a sibling of its enum's, as in C++."""
    for enum in enums:
        yield f"{prefix}{enum.name}"
        yield from (f"{prefix}{value.name}" for value in enum.value)


def _extensions(file: FileDescriptorProto) -> Iterator[FieldDescriptorProto]:
    """Yields all extensions that a file declares, those inside messages too."""
    yield from file.extension
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        yield from message.extension
        waiting += message.nested_type
