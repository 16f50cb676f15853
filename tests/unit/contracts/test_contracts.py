"""The rules that the published contracts keep: request ids, versions, pages, times, bounds, and the
reasons that they name.
"""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor import FileDescriptor
from google.type import money_pb2
from grpc import StatusCode
from grpc_tools import protoc
from ordermesh.error.v1.error_reason_pb2 import ErrorReason
from ordermesh.options.v1 import options_pb2

from chassis.values import errors
from chassis.values.errors import Failure
from tests.unit.contracts import rules

BROKEN = Path(__file__).with_name("broken.proto")
HOUSES = ("chassis", "order_svc", "warehouse_svc", "fulfillment_svc", "shipping_svc", "payment_svc")
ALL_REASONS = (name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys())  # noqa: SIM118
REASONS = frozenset(ALL_REASONS) - {"UNSPECIFIED"}
CODES = frozenset(code.name for code in StatusCode)
COMMENTED = re.compile(r"(?P<comment>(?:^ *//.*\n)+)^ *(?:service|rpc) (?P<name>\w+)", re.MULTILINE)
IN_CAPITALS = re.compile(r"\b[A-Z][A-Z_]{3,}[A-Z]\b")
SERVICES = sorted((rules.ROOT / "proto").rglob("*_service.proto"))


# --- the reasons in comments


def of_comments(text: str) -> Iterator[str]:
    """Returns the breaches in the comments of a file's services and methods. Each method lists its
    reasons, and each reason exists.
    """
    for found in COMMENTED.finditer(text):
        comment, name = " ".join(found["comment"].replace("//", " ").split()), found["name"]
        if "rpc" in found[0].splitlines()[-1] and "Reasons: " not in comment:
            yield f"{name} does not say why it may fail"
        yield from (
            f"{name} names {word}, which is no reason"
            for word in IN_CAPITALS.findall(comment)
            if word not in REASONS | CODES
        )


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_every_method_lists_existing_reasons(path: Path) -> None:
    """Each method's comment has `Reasons:`, and each name in it is an ErrorReason or a status
    code.
    """
    assert list(of_comments(path.read_text())) == []


def test_every_method_and_service_has_a_read_comment() -> None:
    """The test above reads a comment for each published method and service. Without this check it
    would also pass on no comment.
    """
    read = [found["name"] for path in SERVICES for found in COMMENTED.finditer(path.read_text())]
    services = [service for file in rules.files() for service in file.services_by_name.values()]
    assert sorted(read) == sorted(
        [s.name for s in services] + [m.name for s in services for m in s.methods]
    )


def code_files() -> Iterator[Path]:
    """Yields the files of the services and the chassis."""
    for house in HOUSES:
        yield from (rules.ROOT / house).rglob("*.py")


def raised(source: str) -> set[str]:
    """Returns the reasons in the code's string constants, without comments and docstrings."""
    texts = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return texts & REASONS


def test_every_reason_is_raised_by_the_code() -> None:
    """Each value of ErrorReason is raised by a service or the chassis: clients handle no unused
    reason.
    """
    raised_reasons = {reason for path in code_files() for reason in raised(path.read_text())}
    assert raised_reasons == REASONS
    assert raised('"""ORDER_NOT_FOUND, and no more."""\nraise Refused("ORDER_CLOSED")') == {
        "ORDER_CLOSED"
    }


# --- the catalogue of reasons

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Failure)
}
CATALOGUE = {
    value.name.removeprefix("ERROR_REASON_"): value.GetOptions().Extensions[options_pb2.reason]
    for value in ErrorReason.DESCRIPTOR.values
    if value.number
}
# Functions and classes that make a failure of one reason: the failure's class, and the reason.
MAKERS = {
    "illegal": ("Refused", "ILLEGAL_TRANSITION"),
    "Stale": ("Stale", "VERSION_MISMATCH"),
}
# Arguments of a failure that are not metadata.
NOT_METADATA = {"violations", "retry_after_s", "message"}
# Reasons of failed events alone. No call answers with them.
OF_EVENTS = {"EVENT_ID_REUSED", "EVENT_UNREADABLE"}


def beyond_the_catalogue(source: str) -> Iterator[str]:
    """Returns the failures whose status code or metadata the catalogue does not have. It also
    returns metadata mappings whose keys this function cannot read.
    """
    tree = ast.parse(source)
    kinds = (ast.FunctionDef, ast.ClassDef)
    defined = {node.name: node for node in ast.walk(tree) if isinstance(node, kinds)}
    # The arguments that a maker passes on are checked at its callers.
    calls = [
        node
        for name in MAKERS.keys() & defined
        for node in ast.walk(defined[name])
        if isinstance(node, ast.Call)
    ]
    passed_on = {keyword for call in calls for keyword in call.keywords if keyword.arg is None}
    for called, node in failures(tree):
        name, reason = MAKERS.get(called, (called, None))
        if reason is None and node.args and isinstance(node.args[0], ast.Constant):
            reason = str(node.args[0].value)
        if name not in CLASSES or reason not in CATALOGUE:
            continue
        described, code = CATALOGUE[reason], CLASSES[name].code
        if reason not in OF_EVENTS and code != described.code:
            yield f"{reason} comes with {code}, and its option says {described.code}"
        for keyword in node.keywords:
            if keyword in passed_on:
                continue
            keys = {keyword.arg} if keyword.arg else keys_of(keyword.value, defined)
            if not keys:
                yield f"{reason} has metadata in a mapping that cannot be read"
            yield from (
                f"{reason} has metadata {key}, which its option does not name"
                for key in sorted(keys - NOT_METADATA - set(described.metadata))
            )


def failures(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Returns the calls in a file with the name of the function or class. For `super().__init__`
    that is the class of failures.
    """
    classes = {
        id(node): of.name if of.name in CLASSES else ast.unparse(of.bases[0])
        for of in ast.walk(tree)
        if isinstance(of, ast.ClassDef) and of.bases
        for node in ast.walk(of)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            yield classes.get(id(node), name) if name == "__init__" else name, node


def keys_of(value: ast.expr, defined: Mapping[str, ast.AST]) -> set[str]:
    """Returns the keys of a mapping that a function of the file makes; a number in a key becomes 1.
    Empty if they cannot be read.
    """
    name = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
    nodes = ast.walk(defined[name]) if name in defined else ()
    mappings = [node for node in nodes if isinstance(node, ast.Dict)]
    keys = [key for mapping in mappings for key in mapping.keys if key]
    texts = [re.sub(r"\{.*?\}", "1", ast.unparse(key).removeprefix("f")) for key in keys]
    return {str(ast.literal_eval(text)) for text in texts}


def test_every_reason_has_example_and_next_step() -> None:
    """Each value of ErrorReason has an existing status code, an example and the caller's next
    step.
    """
    for reason, described in CATALOGUE.items():
        assert described.code in CODES or reason in OF_EVENTS, reason
        assert described.example, f"{reason} has no example"
        assert described.next_step.endswith("."), f"{reason} has no next step"


def test_code_raises_reasons_as_the_catalogue_states() -> None:
    """A raised reason has the status code and the metadata of its option."""
    found = [
        f"{path.relative_to(rules.ROOT)}: {fault}"
        for path in code_files()
        for fault in beyond_the_catalogue(path.read_text())
    ]
    assert found == []


COLOUR = "ORDER_NOT_FOUND has metadata colour, which its option does not name"


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        (
            'raise Invalid("ORDER_NOT_FOUND", "text", colour="red")',
            ["ORDER_NOT_FOUND comes with INVALID_ARGUMENT, and its option says NOT_FOUND", COLOUR],
        ),
        (
            'raise NotFound("ORDER_NOT_FOUND", **its)\ndef its():\n    return {"colour": "red"}',
            ["ORDER_NOT_FOUND has metadata in a mapping that cannot be read"],
        ),
        (
            'raise NotFound("ORDER_NOT_FOUND", **its())\ndef its():\n    return {"colour": "red"}',
            [COLOUR],
        ),
        (
            'raise illegal("text", "failed", colour="red")',
            ["ILLEGAL_TRANSITION has metadata colour, which its option does not name"],
        ),
        (
            'raise Refused("ORDER_NOT_CANCELLABLE", "text", **its())\n'
            'def its():\n    return {"shipment_ids": "", f"sku_{1}": "A"}',
            ["ORDER_NOT_CANCELLABLE has metadata sku_1, which its option does not name"],
        ),
        (
            "class Lost(NotFound):\n    def __init__(self):\n"
            '        super().__init__("ORDER_NOT_FOUND", colour="red")',
            [COLOUR],
        ),
    ],
)
def test_metadata_beyond_the_catalogue_is_noticed(source: str, faults: list[str]) -> None:
    """The check finds a key without an option in keywords, in a function's mapping, through a maker
    of failures and in a subclass.
    """
    assert list(beyond_the_catalogue(source)) == faults


def test_catalogue_names_only_metadata_that_code_gives() -> None:
    """The code gives each key of an option at least once, as an argument or in a mapping."""
    code = "".join(path.read_text() for path in code_files())
    named = {key for described in CATALOGUE.values() for key in described.metadata}
    numbered = {key for key in named if key.endswith("_1")}  # of a series: sku_1, sku_2 ...
    assert [
        key for key in sorted(named - numbered) if not re.search(rf"\b{key}=|\"{key}\"", code)
    ] == []
    assert [key for key in sorted(numbered) if f'"{key[:-1]}{{' not in code] == []


# --- descriptors

# The breaches in broken.proto, one a line.
BREACHES = """\
broken.proto needs the option csharp_namespace = Broken.V1
broken.proto needs the option go_package = github.com/ordermesh/ordermesh/gen/go/broken/v1;v1
broken.proto needs the option java_multiple_files = True
broken.proto needs the option java_outer_classname = BrokenProto
broken.proto needs the option php_namespace = Broken\\V1
broken.proto needs the option ruby_package = Broken::V1
broken.v1.MoveSomethingRequest.moment: Timestamps, and they alone, are named _time
broken.v1.MoveSomethingRequest.when_time: Timestamps, and they alone, are named _time
ThingChanged is an event without reason, claimed_actor, cause_id
broken.v1.Remark.note is in an event
broken.v1.ThingChanged.price is not bounded
GetLoud is a read: it needs NO_SIDE_EFFECTS and no request_id
ListAll is a read: it needs NO_SIDE_EFFECTS and no request_id
ListAll has no page_size of 0 to 1000
ListAll has no page_token and next_page_token
ListAll has no update_time_from and update_time_before
GetHuge has requests of 1048576 bytes and more
GetHuge has requests of more than 10000 fields
ChangeSomething changes something, and is not IDEMPOTENT
ChangeSomething changes something, and takes neither a reason nor a note
ChangeSomething changes something, and has no request_id that is a UUID
ChangeSomething changes something, and has no optional expected_version
MoveSomething changes something, and has NO_SIDE_EFFECTS
MoveSomething changes something, and takes neither a reason nor a note
broken.v1.MoveSomethingRequest.text is not bounded
broken.v1.MoveSomethingRequest.endless is not bounded
broken.v1.MoveSomethingRequest.body is not bounded
broken.v1.MoveSomethingRequest.names is not bounded
broken.v1.MoveSomethingRequest.many is not bounded
broken.v1.MoveSomethingRequest.labels is not bounded
broken.v1.MoveSomethingRequest.amount is not bounded
broken.v1.MoveSomethingRequest.number is not bounded
broken.v1.Inner.deep is not bounded
""".splitlines()


@pytest.mark.parametrize("file", rules.files(), ids=lambda file: Path(file.name).stem)
def test_contracts_keep_their_rules(file: FileDescriptor) -> None:
    """Changes have a request_id, a reason or note, and a version. Lists have pages and filter by
    update_time. Events have an actor and a reason. Times are named so. Every field of a request and
    every amount of an event is bounded. A file has the options of other languages.
    """
    assert rules.of_file(file) == []


def test_contract_checks_cover_all_services_and_events() -> None:
    """The test above covers all services and all events. Without this check it would also pass on
    none.
    """
    assert len(rules.files()) == len(list((rules.ROOT / "proto").rglob("*.proto")))


def test_every_exception_is_needed() -> None:
    """Each excepted method is published, and lacks the field that the table excepts."""
    changing = {
        m.name: m.input_type.fields_by_name for file in rules.files() for m in rules.methods(file)
    }
    assert [name for name in rules.WITHOUT_REQUEST_ID if "request_id" in changing[name]] == []
    assert [name for name in rules.WITHOUT_VERSION if "expected_version" in changing[name]] == []
    decision = (rules.ROOT / "docs/decisions/0023-methods-that-state-a-version.md").read_text()
    assert [name for name in rules.WITHOUT_VERSION if name not in decision] == []
    messages = [message for file in rules.files() for message in rules.messages(file)]
    fields = {field.full_name for message in messages for field in message.fields}
    assert set(rules.UNSET_IN_EVENTS) <= fields


def _broken(folder: Path) -> FileDescriptor:
    """The contract that breaks every rule, compiled into `folder`."""
    google_type = Path(money_pb2.__file__).parents[2]
    protos = [
        BROKEN.parent,
        rules.ROOT / "proto",
        rules.ROOT / "third_party/protovalidate",
        Path(grpc_tools.__file__).parent / "_proto",
        google_type,
    ]
    exit_code = protoc.main(
        ["protoc", *(f"-I{path}" for path in protos), f"--python_out={folder}", str(BROKEN)]
    )
    assert exit_code == 0, "broken.proto does not compile"
    found: FileDescriptor = importlib.import_module("broken_pb2").DESCRIPTOR
    return found


def test_each_broken_rule_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check reports each broken rule with the method or the field that breaks it."""
    monkeypatch.syspath_prepend(tmp_path)
    assert rules.of_file(_broken(tmp_path)) == BREACHES


def test_each_breach_in_a_comment_is_reported() -> None:
    """The check reports a method without a comment, and unknown reasons of a method and of a
    service.
    """
    assert list(of_comments(BROKEN.read_text())) == [
        "BrokenService names NO_SUCH_REASON, which is no reason",
        "GetLoud does not say why it may fail",
        "ChangeSomething names ORDER_NEVER_FOUND, which is no reason",
    ]
