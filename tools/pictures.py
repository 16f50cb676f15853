"""Generates the diagrams and tables of the project's pages from the code, between marks:

    <!-- drawn: order-statuses -->
    ... replaced by the output of DRAWINGS["order-statuses"]
    <!-- end -->

`python tools/pictures.py` writes them all. tests/unit/test_docs.py checks that they are up to date.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import Mock

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from ordermesh.error.v1 import error_reason_pb2
from ordermesh.options.v1 import options_pb2
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from chassis.rpc.reflection import IMAGE
from chassis.values.config import ServiceConfig
from chassis.values.event_subjects import STREAMS, stream_of, subject_of
from devstack.settings import METRICS_PORTS, NATS_PORT, POSTGRES_PORT, SERVICE_PORTS
from devstack.stack import DATABASES
from payment_svc.providers.sandbox import TOKENS
from tools.metrics import metrics

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- drawn: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SERVICES = tuple(SERVICE_PORTS)


def pages() -> list[Path]:
    """Returns the path of every page of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def drawn(text: str) -> str:
    """Returns the text with everything between its marks drawn from the code. Raises KeyError for a
    mark that DRAWINGS lacks.
    """
    return MARK.sub(lambda mark: f"{mark[1]}{DRAWINGS[mark['name']]()}\n{mark[3]}", text)


# --- statuses

# Further initial statuses of records, with the decision that creates them so. The tables of moves
# have only the first one.
BEGINNINGS = {
    ("order", "RETURN_MOVES"): {"approved": "a recall", "inspected": "a refund without goods"},
    ("fulfillment", "MOVES"): {"cancelled": "its order is closed"},
}


def statuses(service: str, table: str = "MOVES") -> str:
    """Returns a diagram of a service's table of moves."""
    moves = getattr(import_module(f"{service}_svc.lifecycle"), table)
    reached = frozenset[Any]().union(*moves.values())
    lines = ["stateDiagram-v2"]
    lines += [
        f"    [*] --> {here}"
        for place, here in enumerate(moves)
        if place == 0 or here not in reached
    ]
    also = BEGINNINGS.get((service, table), {})
    lines += [f"    [*] --> {here}: {also[here]}" for here in moves if here in also]
    for here, theres in moves.items():
        lines += [f"    {here} --> {there}" for there in moves if there in theres]
        lines += [f"    {here} --> [*]"] if not theres else []
    return _mermaid(lines)


def status_table(service: str) -> str:
    """Returns a table of a service's statuses, with their meanings from the code's comments."""
    lifecycle = import_module(f"{service}_svc.lifecycle")
    meanings = _comments(lifecycle, "Status")
    rows = [
        [
            status,
            meanings[status.name],
            ", ".join(there for there in lifecycle.MOVES if there in theres) or "nothing: terminal",
        ]
        for status, theres in lifecycle.MOVES.items()
    ]
    return _table(["status", "meaning", "may go to"], rows)


def _comments(module: ModuleType, name: str) -> dict[str, str]:
    """Returns the comment of each member of an enum, by the member's name."""
    source = Path(str(module.__file__)).read_text()
    body = source.partition(f"class {name}(StrEnum):")[2].partition("\n\n\n")[0]
    return dict(re.findall(r"^    ([A-Z_]+) = \"\w+\" *(?:# (.*))?$", body, re.MULTILINE))


# --- services and events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of the contracts; `when` is its message's comment."""

    subject: str
    message: str
    publisher: str
    when: str


def architecture() -> str:
    """Returns a diagram of the calls between services (from their peers' addresses in the settings)
    and of the events that each consumes (from its consumers).
    """
    lines = [
        "flowchart LR",
        "    clients([storefront, staff, carriers]) -->|gRPC| services",
        "    subgraph services",
        "    direction TB",
    ]
    lines += [
        f'    {service}["{service}<br/>database {DATABASES[service]}"]' for service in SERVICES
    ]
    lines += ["    end", '    subgraph broker["NATS JetStream"]', "    direction TB"]
    lines += [f"    {stream}[({stream})]" for stream in STREAMS]
    lines += ["    end"]
    lines += [
        f"    {service} -->|gRPC| {peer}"
        for service in SERVICES
        for peer in SERVICES
        if f"{peer}_address" in config(service).model_fields
    ]
    publishers = {stream_of(event.subject): event.publisher for event in events()}
    lines += [f"    {publishers[stream]} ==> {stream}" for stream in STREAMS]
    consumed = {
        (stream_of(subject_of(kind)), service)
        for service in SERVICES
        for kind in consumed_events(service)
    }
    lines += [
        f"    {stream} -.-> {service}"
        for stream in STREAMS
        for service in SERVICES
        if (stream, service) in consumed
    ]
    return _mermaid(lines)


def consumed_events(service: str) -> list[type[Message]]:
    """Returns the events that a service consumes."""
    handlers: Any = import_module(f"{service}_svc.consumers").handlers
    # Only the table of handlers is read: no handler calls these operations.
    operations = [Mock() for _ in signature(handlers).parameters]
    return list(handlers(*operations))


EVENT = re.compile(
    r"(?P<comment>(?:// .*\n)+)message (?P<name>\w+) \{\n\s*option"
    r" \(ordermesh\.options\.v1\.event\) = \{subject: \"(?P<subject>[^\"]+)\"\}"
)


def events() -> Iterator[Event]:
    """Yields the events of the contracts, service by service."""
    for service in SERVICES:
        text = (ROOT / f"proto/ordermesh/{service}/events/v1/{service}_events.proto").read_text()
        for found in EVENT.finditer(text):
            when = " ".join(line.removeprefix("// ") for line in found["comment"].splitlines())
            yield Event(
                subject=found["subject"],
                message=f"ordermesh.{service}.events.v1.{found['name']}",
                publisher=service,
                when=when,
            )


def event_table() -> str:
    """Returns a table of every event: its subject, message, meaning and consumers."""
    rows = []
    for event in events():
        consumers = [
            s
            for s in SERVICES
            if event.message in {kind.DESCRIPTOR.full_name for kind in consumed_events(s)}
        ]
        rows.append(
            [
                f"`{event.subject}`",
                f"`{event.message.removeprefix('ordermesh.')}`",
                event.when,
                ", ".join(consumers) or "clients",
            ]
        )
    return _table(["subject", "message, in `ordermesh`", "when", "consumed by"], rows)


# --- settings and metrics


def config(service: str) -> Any:
    """Returns the class of a service's settings, a ServiceConfig."""
    return import_module(f"{service}_svc.config").Config


def settings(service: str) -> str:
    """Returns a table of the settings that only this service has."""
    own = {
        name: field
        for name, field in config(service).model_fields.items()
        if name not in ServiceConfig.model_fields
    }
    return _settings(own)


def _settings(fields: dict[str, FieldInfo]) -> str:
    rows = [
        [f"`{name.upper()}`", _default(field), field.description or ""]
        for name, field in fields.items()
    ]
    return _table(["variable", "default", "what it is"], rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(each service its own)" if field.annotation is str else "(must be set)"
    value = field.default
    if value is None or isinstance(value, SecretStr | BaseModel) or value in ({}, frozenset()):
        return "(none)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def ports() -> str:
    """Returns a table of the local stack's addresses, and the variables that change them."""
    rows = [
        [
            name,
            f"127.0.0.1:{port}",
            f"127.0.0.1:{METRICS_PORTS[name]}",
            f"`{name.upper()}_PORT`, `{name.upper()}_METRICS_PORT`",
        ]
        for name, port in SERVICE_PORTS.items()
    ]
    rows += [
        ["PostgreSQL", f"127.0.0.1:{POSTGRES_PORT}", "", "`POSTGRES_PORT`"],
        ["NATS", f"127.0.0.1:{NATS_PORT}", "", "`NATS_PORT`"],
    ]
    return _table(["", "address", "metrics", "moved by"], rows)


def metric_table() -> str:
    """Returns a table of the metrics."""
    rows = [
        [f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels), m.what]
        for m in metrics()
    ]
    return _table(["metric", "kind", "labels", "what it is"], rows)


def tokens() -> str:
    """Returns a table of the sandbox processor's payment-method tokens and their outcomes."""
    return _table(
        ["token", "what happens"],
        [[f"`{token.name}`", token.description] for token in TOKENS.values()],
    )


# --- error reasons


class Reason(NamedTuple):
    """An error reason of the contract."""

    name: str
    meaning: str
    options: options_pb2.ReasonOptions


# Field numbers of a file's enums and of an enum's values in google/protobuf/descriptor.proto.
ENUM_TYPE, VALUE = 5, 2


def reasons() -> Iterator[Reason]:
    """Yields the error reasons of the contract, with the meaning from their comments."""
    image = FileDescriptorSet.FromString(IMAGE.read_bytes())
    [file] = [each for each in image.file if each.name == error_reason_pb2.DESCRIPTOR.name]
    comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    for place, value in enumerate(file.enum_type[0].value):
        if value.number:
            meaning = " ".join(comments[ENUM_TYPE, 0, VALUE, place].split())
            options = value.options.Extensions[options_pb2.reason]
            yield Reason(value.name.removeprefix("ERROR_REASON_"), meaning, options)


def reason_table() -> str:
    """Returns a table of every error reason: status code, meaning, metadata keys, example and next
    step.
    """
    rows = [
        [
            f"`{reason.name}`",
            reason.options.code or "(none)",
            reason.meaning,
            ", ".join(f"`{key}`" for key in reason.options.metadata),
            reason.options.example,
            reason.options.next_step,
        ]
        for reason in reasons()
    ]
    return _table(["reason", "status code", "meaning", "metadata", "example", "next step"], rows)


# --- Markdown


def _mermaid(lines: Sequence[str]) -> str:
    return "\n".join(["```mermaid", *lines, "```"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells
    )


DRAWINGS: dict[str, Callable[[], str]] = {
    "architecture": architecture,
    "common-settings": partial(_settings, ServiceConfig.model_fields),
    "error-reasons": reason_table,
    "events": event_table,
    "metrics": metric_table,
    "ports": ports,
    "tokens": tokens,
    "order-status-table": partial(status_table, "order"),
    "return-statuses": partial(statuses, "order", "RETURN_MOVES"),
    **{f"{service}-statuses": partial(statuses, service) for service in SERVICES},
    **{f"{service}-settings": partial(settings, service) for service in SERVICES},
}


def main() -> None:
    """Writes all pages again; prints those that changed."""
    for page in pages():
        before = page.read_text()
        if (after := drawn(before)) != before:
            page.write_text(after)
            print(f"{page.relative_to(ROOT)} drawn again")


if __name__ == "__main__":
    main()
