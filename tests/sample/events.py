"""The contract of the sample service, built without files: one event in each of two streams, marked
by the contracts' own option.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from ordermesh.options.v1 import options_pb2

TEXT = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
NUMBER = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
FIELDS = {"order_id": TEXT, "version": NUMBER, "old": TEXT, "new": TEXT}
PACKAGE = "ordermesh.sample.events.v1"
SUBJECTS = {
    "SampleStatusChanged": "orders.sample.status_changed",
    "SampleNoted": "orders.sample.noted",
    "SamplePaid": "payments.sample.paid",
    "SampleSilent": "",
}


def _contract() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/sample_events.proto", package=PACKAGE, syntax="proto3"
    )
    file.dependency.append(options_pb2.DESCRIPTOR.name)
    for name, subject in SUBJECTS.items():
        message = file.message_type.add(name=name)
        if subject:
            message.options.Extensions[options_pb2.event].subject = subject
        for number, (field, kind) in enumerate(FIELDS.items(), start=1):
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    return file


def _message(name: str) -> type[Message]:
    return message_factory.GetMessageClass(_file.message_types_by_name[name])


_pool = descriptor_pool.Default()
_pool.AddSerializedFile(_contract().SerializeToString())
_file = _pool.FindFileByName("tests/sample_events.proto")

SampleStatusChanged = _message("SampleStatusChanged")
SampleNoted = _message("SampleNoted")
SamplePaid = _message("SamplePaid")
SampleSilent = _message("SampleSilent")
