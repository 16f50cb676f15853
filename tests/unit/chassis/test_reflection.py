"""Reflection answers from the contracts: every symbol, with its comments."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from ordermesh.order.v1 import order_service_pb2

from chassis.rpc.reflection import servicer

ORDERS = "ordermesh.order.v1.OrderService"
HEALTH = "grpc.health.v1.Health"


async def ask(*requests: ServerReflectionRequest) -> Sequence[ServerReflectionResponse]:
    """The reflection answers of a server with OrderService and the health service."""

    async def stream() -> AsyncIterator[ServerReflectionRequest]:
        for request in requests:
            yield request

    context: Any = None
    answers: Any = servicer([ORDERS, HEALTH]).ServerReflectionInfo(stream(), context)
    return [answer async for answer in answers]


def files(answer: ServerReflectionResponse) -> Sequence[descriptor_pb2.FileDescriptorProto]:
    """Returns the files of an answer; the requested one is the first."""
    found = answer.file_descriptor_response.file_descriptor_proto
    return [descriptor_pb2.FileDescriptorProto.FromString(each) for each in found]


async def test_services_are_listed() -> None:
    """The answer has the registered services, including one without a contract of the project."""
    [answer] = await ask(ServerReflectionRequest(list_services=""))
    assert [each.name for each in answer.list_services_response.service] == [HEALTH, ORDERS]


async def test_each_symbol_of_the_contracts_is_found() -> None:
    """Each service, method, message, field, enum and value is found in its file, with comments."""
    symbols = {
        f"{ORDERS}.CancelOrder": "ordermesh/order/v1/order_service.proto",
        "ordermesh.order.v1.CreateOrderRequest.items": "ordermesh/order/v1/order_service.proto",
        "ordermesh.error.v1.ErrorReason": "ordermesh/error/v1/error_reason.proto",
        "ordermesh.error.v1.ERROR_REASON_OVERLOADED": "ordermesh/error/v1/error_reason.proto",
        "ordermesh.options.v1.event": "ordermesh/options/v1/options.proto",
        "ordermesh.payment.events.v1.PaymentConfirmed": (
            "ordermesh/payment/events/v1/payment_events.proto"
        ),
    }
    answers = await ask(*(ServerReflectionRequest(file_containing_symbol=each) for each in symbols))
    for expected, answer in zip(symbols.values(), answers, strict=True):
        found = files(answer)[0]
        assert found.name == expected
        assert any(each.leading_comments for each in found.source_code_info.location)


async def test_file_comes_with_all_its_imports() -> None:
    """A client builds the descriptors from one answer: it has each import of each file once."""
    [answer] = await ask(
        ServerReflectionRequest(file_by_filename=order_service_pb2.DESCRIPTOR.name)
    )
    found = {file.name: file for file in files(answer)}
    assert len(found) == len(files(answer))
    assert {imported for file in found.values() for imported in file.dependency} <= set(found)


async def test_standard_service_is_described() -> None:
    """A service without a file in the image comes from the process's descriptors."""
    [answer] = await ask(ServerReflectionRequest(file_containing_symbol=f"{HEALTH}.Check"))
    assert files(answer)[0].package == "grpc.health.v1"


async def test_extensions_are_found_by_number() -> None:
    """The number of a contract's option leads to the extension's file."""
    numbers, by_number = await ask(
        ServerReflectionRequest(all_extension_numbers_of_type="google.protobuf.MessageOptions"),
        ServerReflectionRequest(
            file_containing_extension=ExtensionRequest(
                containing_type="google.protobuf.MessageOptions", extension_number=50731
            )
        ),
    )
    assert 50731 in numbers.all_extension_numbers_response.extension_number
    assert files(by_number)[0].name == "ordermesh/options/v1/options.proto"


async def test_unknown_name_is_answered_and_the_stream_goes_on() -> None:
    """An unknown name or an invalid question is an error within the stream; the next question is
    answered.
    """
    unknown, nothing, known = await ask(
        ServerReflectionRequest(file_containing_symbol="x" * 10_000),
        ServerReflectionRequest(),
        ServerReflectionRequest(list_services=""),
    )
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert len(unknown.error_response.error_message) < 300
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert known.list_services_response.service
