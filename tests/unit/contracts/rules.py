"""The rules of the contracts that no linter checks, over descriptors. Each rule returns a sentence
for each breach.

The tables list the exceptions with their reasons.
"""

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePath

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from ordermesh.options.v1 import options_pb2

from chassis.rpc import retries
from chassis.values.message_limits import REQUEST_BYTES_MAX, limits_of
from chassis.values.money import UNITS_MAX

ROOT = Path(__file__).parents[3]
GO_ROOT = "github.com/ordermesh/ordermesh/gen/go"
READS = (*retries.READS, "Watch")
PAGE_SIZE_MAX = 1000
# The greatest number of fields of a request, with those of its messages. With so many, its
# validation takes 20 ms of CPU at most.
FIELDS_MAX = 10_000
# Google's messages that consist of bounded numbers alone.
NUMBERS = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
# A filter over a `_time` has a lower and an upper bound.
TIME_NAMES = ("_time", "_time_from", "_time_before")

# Methods that change something and have no request_id.
WITHOUT_REQUEST_ID = {"IngestProviderWebhook": "the processor's own event id stands in its headers"}

CREATES = "its resource has no version yet"
MANY = "it names many records"
TARGET = "it states a cumulative target"
FACT = "a fact of another system, under that system's event id"
FINAL = "the record has no version: its status changes once, to an end"
NUMBER = "it sets the stored version itself"
# Methods that change something and state no version: docs/decisions/0023.
WITHOUT_VERSION = {
    "CreateOrder": CREATES,
    "CreatePayment": CREATES,
    "CreateShipment": CREATES,
    "ReserveStock": CREATES,
    "ReceiveStock": MANY,
    "BatchConfirmReservations": MANY,
    "BatchReleaseReservations": MANY,
    "BatchReplayFailedEvents": MANY,
    "BatchDiscardFailedEvents": MANY,
    "RepublishEvents": MANY,
    "AdoptEvents": MANY,
    "RestockItem": TARGET,
    "MarkDamaged": TARGET,
    "ReplaceSpoiledUnits": TARGET,
    "ConfirmReservation": TARGET,
    "ReleaseReservation": TARGET,
    "RecordTrackingEvent": FACT,
    "IngestProviderWebhook": FACT,
    "ReplayFailedEvent": FINAL,
    "DiscardFailedEvent": FINAL,
    "SetStoredVersion": NUMBER,
}


# Notes of messages that events embed.
UNSET_IN_EVENTS = {
    "ordermesh.warehouse.v1.StockMovement.note": (
        "tests/integration/warehouse/test_actors.py shows that it is unset"
    )
}
# The fields of each event.
EVENT_FIELDS = ("reason", "actor", "claimed_actor", "cause_id")
# Events without one of these fields.
WITHOUT_EVENT_FIELDS = {
    "ordermesh.warehouse.events.v1.StockChanged.reason": "its stock_movement has the reason"
}


# --- published contracts


@cache
def files() -> tuple[FileDescriptor, ...]:
    """All files of the generated contracts."""
    root = importlib.import_module("ordermesh").__path__
    names = sorted(
        {
            path.relative_to(folder).with_suffix("").parts
            for folder in root
            for path in Path(folder).rglob("*_pb2.py")
        }
    )
    return tuple(
        importlib.import_module(".".join(("ordermesh", *parts))).DESCRIPTOR for parts in names
    )


def methods(file: FileDescriptor) -> Iterator[MethodDescriptor]:
    for service in file.services_by_name.values():
        yield from service.methods


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    """Returns the file's messages, and the messages within them."""
    waiting = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        waiting += message.nested_types
        yield message


def of_file(file: FileDescriptor) -> list[str]:
    """Returns every breach in the file's descriptors."""
    found = [
        *of_languages(file),
        *(
            fault
            for message in messages(file)
            for fault in (*of_times(message), *of_event(message))
        ),
    ]
    for method in methods(file):
        found += [*of_method(method), *(of_bounds(method.input_type) or of_size(method))]
    return found


# --- languages


def of_languages(file: FileDescriptor) -> Iterator[str]:
    """A file has the options that generators of other languages read. Their values follow from its
    package and its name.
    """
    descriptor = FileDescriptorProto()
    file.CopyToProto(descriptor)
    parts = file.package.split(".")
    namespace = [part.capitalize() for part in parts]
    outer = "".join(word.capitalize() for word in PurePath(file.name).stem.split("_"))
    options = {
        "csharp_namespace": ".".join(namespace),
        "go_package": f"{GO_ROOT}/{'/'.join(parts)};{''.join(parts[1:])}",
        "java_multiple_files": True,
        "java_outer_classname": f"{outer}Proto",
        "java_package": f"com.{file.package}",
        "php_namespace": "\\".join(namespace),
        "ruby_package": "::".join(namespace),
    }
    for name, value in options.items():
        if getattr(descriptor.options, name) != value:
            yield f"{file.name} needs the option {name} = {value}"


# --- methods


def of_method(method: MethodDescriptor) -> Iterator[str]:
    """A read has NO_SIDE_EFFECTS. A change has a request_id and a version. A list has pages."""
    quiet = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    fields = method.input_type.fields_by_name
    if method.name.startswith(READS):
        if not quiet or "request_id" in fields:
            yield f"{method.name} is a read: it needs NO_SIDE_EFFECTS and no request_id"
    else:
        if quiet:
            yield f"{method.name} changes something, and has NO_SIDE_EFFECTS"
        elif method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENT:
            yield f"{method.name} changes something, and is not IDEMPOTENT"
        if method.name not in WITHOUT_REQUEST_ID and not {"reason", "note"} & set(fields):
            yield f"{method.name} changes something, and takes neither a reason nor a note"
        if method.name not in WITHOUT_REQUEST_ID and not (
            "request_id" in fields and _rules(fields["request_id"]).string.uuid
        ):
            yield f"{method.name} changes something, and has no request_id that is a UUID"
        if method.name not in WITHOUT_VERSION and not (
            "expected_version" in fields and fields["expected_version"].has_presence
        ):
            yield f"{method.name} changes something, and has no optional expected_version"
    if method.name.startswith("List"):
        yield from _of_pages(method)


def _of_pages(method: MethodDescriptor) -> Iterator[str]:
    fields = method.input_type.fields_by_name
    size = _rules(fields["page_size"]).int32 if "page_size" in fields else None
    if size is None or not (
        size.HasField("gte")
        and size.gte == 0
        and size.HasField("lte")
        and size.lte == PAGE_SIZE_MAX
    ):
        yield f"{method.name} has no page_size of 0 to {PAGE_SIZE_MAX}"
    if "page_token" not in fields or "next_page_token" not in method.output_type.fields_by_name:
        yield f"{method.name} has no page_token and next_page_token"
    listed = [
        field.message_type
        for field in method.output_type.fields
        if field.is_repeated and field.message_type
    ]
    bounds = {
        field.name for message in (method.input_type, *_filters(method)) for field in message.fields
    }
    if (
        any("update_time" in item.fields_by_name for item in listed)
        and not {"update_time_from", "update_time_before"} <= bounds
    ):
        yield f"{method.name} has no update_time_from and update_time_before"


def _filters(method: MethodDescriptor) -> list[Descriptor]:
    return [
        message
        for field in method.input_type.fields
        if field.name == "filter" and (message := field.message_type)
    ]


def of_size(method: MethodDescriptor) -> Iterator[str]:
    """The server accepts the largest valid request, and validates it at once."""
    limits = limits_of(method.input_type)
    if limits.bytes_max >= REQUEST_BYTES_MAX:
        yield f"{method.name} has requests of {REQUEST_BYTES_MAX} bytes and more"
    if limits.fields_max > FIELDS_MAX:
        yield f"{method.name} has requests of more than {FIELDS_MAX} fields"


# --- events


def of_event(message: Descriptor) -> Iterator[str]:
    """An event has the reason of the change, its service, its claimed actor and its cause. At no
    depth does it have a person's note, and its amounts have the bounds of a request's.
    """
    if not message.GetOptions().Extensions[options_pb2.event].subject:
        return
    missing = [
        name
        for name in EVENT_FIELDS
        if name not in message.fields_by_name
        and f"{message.full_name}.{name}" not in WITHOUT_EVENT_FIELDS
    ]
    if missing:
        yield f"{message.name} is an event without {', '.join(missing)}"
    yield from (
        f"{field.full_name} is in an event"
        for field in _deep(message)
        if field.name == "note" and field.full_name not in UNSET_IN_EVENTS
    )
    yield from (
        f"{field.full_name} is not bounded"
        for field in _deep(message)
        if _is_money(field) and not _is_bounded(field)
    )


def _deep(message: Descriptor) -> Iterator[FieldDescriptor]:
    seen, waiting = {message}, [message]
    while waiting:
        for field in waiting.pop().fields:
            yield field
            inner = field.message_type
            if inner is not None and inner not in seen:
                seen.add(inner)
                waiting.append(inner)


# --- fields


def of_times(message: Descriptor) -> Iterator[str]:
    """A Timestamp's name ends in `_time`, and no other field's does."""
    for field in message.fields:
        time = (
            field.message_type is not None
            and field.message_type.full_name == "google.protobuf.Timestamp"
        )
        if time is not field.name.endswith(TIME_NAMES):
            yield f"{field.full_name}: Timestamps, and they alone, are named _time"


def of_bounds(request: Descriptor) -> list[str]:
    """Returns the request's fields without a bound, at any depth."""
    found, seen, waiting = [], {request}, [request]
    while waiting:
        for field in waiting.pop().fields:
            if not _is_bounded(field):
                found.append(f"{field.full_name} is not bounded")
            inner = field.message_type
            if (
                inner is not None
                and inner.full_name.split(".")[0] not in ("google", "buf")
                and inner not in seen
                and not _is_map(field)
            ):
                seen.add(inner)
                waiting.append(inner)
    return found


def _is_bounded(field: FieldDescriptor) -> bool:
    rules = _rules(field)
    if field.message_type is not None and _is_map(field):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return (
            rules.map.HasField("max_pairs")
            and _one(key, rules.map.keys)
            and _one(value, rules.map.values)
        )
    if field.is_repeated:
        return rules.repeated.HasField("max_items") and _one(field, rules.repeated.items)
    return _one(field, rules)


def _one(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> bool:
    """Whether the rules bound one value of the field. A message of the project is bounded if its
    own fields are.
    """
    if field.message_type is not None:
        name = field.message_type.full_name
        money = _is_money(field) and any(_bounds_money(rule) for rule in rules.cel)
        return money or name in NUMBERS or not name.startswith("google.")
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return rules.bytes.HasField("max_len")
        return (
            rules.string.HasField("max_len")
            or rules.string.HasField("max_bytes")
            or rules.string.uuid
        )
    return field.cpp_type == FieldDescriptor.CPPTYPE_BOOL or rules.WhichOneof("type") is not None


def _is_money(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.type.Money"


def _bounds_money(rule: validate_pb2.Rule) -> bool:
    """Whether the rule is the one that every amount has, and its message names both bounds."""
    bounds = (
        "currency_code.matches('^[A-Z]{3}$')",
        f"this.units < {UNITS_MAX} ||",
        "this.units >= 0",
    )
    return all(bound in rule.expression for bound in bounds) and {"0", str(UNITS_MAX)} <= set(
        rule.message.split()
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules
