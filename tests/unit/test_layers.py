"""The import rules of the project's modules, checked on the syntax trees, and the habits that no
linter checks.

`architecture` in the docs has the reasons; the tables below have the rules. A snippet that breaks
it proves each rule.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeGuard

import pytest
from ordermesh.error.v1.error_reason_pb2 import ErrorReason

from chassis.values import errors

ROOT = Path(__file__).parents[2]
SERVICES = frozenset(
    {"order_svc", "warehouse_svc", "fulfillment_svc", "shipping_svc", "payment_svc"}
)
CLIENTS = frozenset({"omctl", "simulator", "bench", "devstack"})
# The generated contracts, and Google's messages that they use.
CONTRACTS = frozenset({"ordermesh", "buf", "google"})
ALL = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class ModuleRule:
    """What a module of a service may import beside itself and the standard library: other modules
    of its service, parts of the chassis, and packages.
    """

    modules: frozenset[str] = frozenset()
    chassis: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    # Whether the module has no I/O, no clock and no randomness: its functions get all values as
    # arguments.
    pure: bool = False


def _module_rule(
    modules: str = "",
    chassis: str = "",
    packages: str = "",
    *,
    contracts: bool = False,
    pure: bool = False,
) -> ModuleRule:
    others = frozenset(packages.split()) | (CONTRACTS if contracts else frozenset())
    return ModuleRule(
        modules=frozenset(modules.split()),
        chassis=frozenset(chassis.split()),
        packages=others,
        pure=pure,
    )


# docs/decisions/0011 has the reasons for each import. The chassis is named by its folders.
MODULE_RULES = {
    "lifecycle": _module_rule(pure=True),
    "model": _module_rule("lifecycle", "values", pure=True),
    "decisions": _module_rule("lifecycle model", "values", pure=True),
    "wire": _module_rule("lifecycle model", "values", contracts=True, pure=True),
    "tables": _module_rule("lifecycle", "write", "sqlalchemy"),
    "store": _module_rule("lifecycle model tables", "write values", "sqlalchemy"),
    "peers": _module_rule("model wire", "rpc values", contracts=True),
    # `write`: the sandbox of card processors has its own tables.
    "providers": _module_rule("model", "rpc values write", "structlog"),
    "operations": _module_rule(
        "lifecycle model decisions store peers providers", "*", "structlog uuid_utils"
    ),
    "rpc": _module_rule("wire model operations", "*", "structlog grpc", contracts=True),
    "consumers": _module_rule("wire model operations", "*", "structlog uuid_utils", contracts=True),
    "workers": _module_rule("wire model operations", "*", "structlog", contracts=True),
    "config": _module_rule("", "values", "pydantic pydantic_settings"),
    "app": _module_rule("*", "*", contracts=True),
    "migrations": _module_rule("tables", "write", "alembic sqlalchemy"),
    "__main__": _module_rule("app config", "*"),
    "__init__": _module_rule(),
}
# The chassis from bottom to top: no folder or module imports a later one.
CHASSIS = (
    *("values", "observe", "write", "broker", "publish", "consume", "rpc", "ops"),
    *("process", "service"),
)
# The parts of the chassis that clients may import: calls, subscriptions, settings, logs and values.
CLIENT_SIDE = frozenset(
    {
        *("rpc.client", "rpc.watch_client", "broker.subscribe", "broker.stream"),
        *("observe.telemetry", "values.actor", "values.config", "values.convert", "values.errors"),
        *("values.event_subjects", "values.money"),
    }
)
# Modules and functions with side effects, clocks or randomness.
IMPURE = frozenset(
    {
        "asyncio",
        "io",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)
IMPURE_CALLS = frozenset(
    {"now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open", "print", "input"}
)


# --- one file


def faults(path: PurePath, source: str) -> list[str]:
    """Returns a sentence for each rule that the file (its path in the project) breaks."""
    tree = ast.parse(source)
    found = [*_import_faults(path, tree), *_habit_faults(path, tree)]
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


def _imports(path: PurePath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Returns the line and the full dotted name of each import, also those inside functions and for
    the type checker alone.
    """
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *((node.module,) if node.module else ())))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and _called(node) in ("import_module", "__import__")
            and node.args
        ):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def _called(call: ast.Call) -> str:
    """Returns the last part of the name of the called function."""
    return (
        call.func.attr
        if isinstance(call.func, ast.Attribute)
        else call.func.id
        if isinstance(call.func, ast.Name)
        else ""
    )


def _import_faults(path: PurePath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    package = path.parts[0]
    for line, name in _imports(path, tree):
        fault = None
        if package in SERVICES:
            fault = _service_fault(path, name)
        elif package == "chassis":
            fault = _chassis_fault(path, name)
        elif package in CLIENTS:
            fault = _client_fault(package, name)
        if fault:
            yield line, fault
    if package in SERVICES:
        yield from _impurities(path, tree)


def _module_of(path: PurePath) -> str:
    """Returns the module of a service's file. A folder is a module like a file."""
    return path.parts[1].removesuffix(".py")


def _service_fault(path: PurePath, name: str) -> str | None:
    """Returns why this file of a service may not import `name`; None if it may."""
    package, module = path.parts[0], _module_of(path)
    if module not in MODULE_RULES:
        return f"a service has no module called {module}"
    rules, (top, _, rest) = MODULE_RULES[module], name.partition(".")
    part = rest.partition(".")[0]
    if top in SERVICES and top != package:
        return f"{package} imports another service, {top}"
    if top == package:
        return (
            None
            if part == module or {part, "*"} & rules.modules
            else f"{module} may not import {name}"
        )
    if top == "chassis":
        return None if {part, "*"} & rules.chassis else f"{module} may not import {name}"
    if top in sys.stdlib_module_names:
        return (
            f"{module} is pure, and {top} has side effects or a clock"
            if rules.pure and top in IMPURE
            else None
        )
    if module == "providers":
        # Each adapter may import the client library of its subject, and a memory of its own.
        return (
            f"{module} may not import {name}"
            if top in {"grpc", "nats", "opentelemetry"} | CONTRACTS | CLIENTS
            else None
        )
    return None if top in rules.packages else f"{module} may not import {name}"


def _chassis_fault(path: PurePath, name: str) -> str | None:
    """Returns why this file of the chassis may not import `name`; None if it may."""
    top, _, rest = name.partition(".")
    if top in SERVICES | CLIENTS | {"tests"}:
        return f"the chassis may not import {top}"
    here, there = _module_of(path), rest.partition(".")[0]
    if top != "chassis" or not {here, there} <= set(CHASSIS):
        return None
    if CHASSIS.index(there) > CHASSIS.index(here):
        return f"{here} stands below {there} and may not import {name}"
    return None


def _client_fault(package: str, name: str) -> str | None:
    """Returns why a client may not import `name`; None if it may."""
    top, _, rest = name.partition(".")
    if top in SERVICES:
        return f"{package} is a client and imports a service, {top}"
    if top in ("grpc", "nats", "opentelemetry"):
        return f"only the chassis and the services may import {top}"
    if top == "chassis" and ".".join(rest.split(".")[:2]) not in CLIENT_SIDE:
        return f"{package} is a client and may not import {name}"
    return None


def _impurities(path: PurePath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Returns the uses of clocks, ids and I/O in a pure module."""
    module = _module_of(path)
    if module in MODULE_RULES and MODULE_RULES[module].pure:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in IMPURE_CALLS:
                yield node.lineno, f"{module} is pure, and calls {_called(node)}()"


# --- habits


def _failures() -> frozenset[str]:
    return frozenset(
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.Failure)
    )


FAILURES = _failures()
REASONS = frozenset(
    name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name
)


def _habit_faults(path: PurePath, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if ast.get_docstring(tree) is None and tree.body:
        yield 1, "the file has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield (
                node.lineno,
                "a bare except also catches what must pass: cancellations, the interpreter's end",
            )
        elif (
            isinstance(node, ast.Call)
            and _called(node) in FAILURES
            and node.args
            and path.parts[0] != "tests"
        ):
            reason = node.args[0]
            if (
                isinstance(reason, ast.Constant)
                and isinstance(reason.value, str)
                and reason.value not in REASONS
            ):
                yield node.lineno, f"{reason.value} is no ErrorReason"
        elif isinstance(node, ast.Attribute) and node.attr == "publish_async":
            yield (
                node.lineno,
                (
                    "publish_async does not wait for the broker's answer: a lost event would"
                    " stay unnoticed"
                ),
            )
        elif path.parts[0] == "tests" and _is_unexplained_test(node):
            yield node.lineno, f"{node.name} does not state the fact that it proves"


def _is_unexplained_test(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Whether it is a test without a docstring."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return node.name.startswith("test_") and ast.get_docstring(node) is None


# --- the project


def _files() -> list[PurePath]:
    packages = sorted(SERVICES | CLIENTS | {"chassis", "tests", "tools"})
    return [
        file.relative_to(ROOT)
        for package in packages
        for file in sorted((ROOT / package).rglob("*.py"))
    ]


@pytest.mark.parametrize("path", _files(), ids=str)
def test_every_file_keeps_the_import_rules(path: PurePath) -> None:
    """No file of the project breaks an import rule or a habit."""
    assert faults(path, (ROOT / path).read_text()) == []


def test_import_rules_cover_every_package() -> None:
    """The test above covers the services and the chassis. Without this check it would also pass on
    no file.
    """
    packages = {path.parts[0] for path in _files()}
    assert SERVICES | {"chassis", "tests"} <= packages


DOC = '"""What lives here."""\n'


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        (
            "order_svc/lifecycle.py",
            "from order_svc import model",
            "lifecycle may not import order_svc.model",
        ),
        (
            "order_svc/model.py",
            "import chassis.write.rows",
            "model may not import chassis.write.rows",
        ),
        (
            "order_svc/decisions.py",
            "from chassis.write import database",
            "decisions may not import chassis.write.database",
        ),
        (
            "order_svc/decisions.py",
            "from order_svc.store import lock_orders",
            "decisions may not import order_svc.store",
        ),
        (
            "order_svc/decisions/cancel.py",
            "from order_svc.wire import order",
            "decisions may not import order_svc.wire",
        ),
        (
            "order_svc/decisions/cancel.py",
            "from ..store import lock_orders",
            "decisions may not import order_svc.store",
        ),
        (
            "order_svc/decisions.py",
            "import time",
            "decisions is pure, and time has side effects or a clock",
        ),
        ("order_svc/decisions.py", "x = datetime.now(UTC)", "decisions is pure, and calls now()"),
        ("order_svc/model.py", "def f():\n    return uuid7()", "model is pure, and calls uuid7()"),
        (
            "order_svc/wire.py",
            "from order_svc.operations import Operations",
            "wire may not import order_svc.operations",
        ),
        ("order_svc/wire.py", "import grpc", "wire may not import grpc"),
        (
            "order_svc/tables.py",
            "from order_svc.model import Order",
            "tables may not import order_svc.model",
        ),
        (
            "order_svc/store.py",
            "from order_svc.wire import order",
            "store may not import order_svc.wire",
        ),
        (
            "order_svc/store.py",
            "from ordermesh.order.v1 import order_pb2",
            "store may not import ordermesh.order.v1.order_pb2",
        ),
        ("order_svc/peers.py", "import grpc.aio", "peers may not import grpc.aio"),
        (
            "order_svc/peers.py",
            "from order_svc import store",
            "peers may not import order_svc.store",
        ),
        ("order_svc/operations.py", "import grpc", "operations may not import grpc"),
        (
            "order_svc/operations.py",
            "from nats.aio.client import Client",
            "operations may not import nats.aio.client.Client",
        ),
        (
            "order_svc/operations.py",
            "from ordermesh.order.v1 import order_pb2",
            "operations may not import ordermesh.order.v1.order_pb2",
        ),
        (
            "order_svc/operations.py",
            "from order_svc import wire",
            "operations may not import order_svc.wire",
        ),
        (
            "order_svc/operations/returns.py",
            "from order_svc.rpc import X",
            "operations may not import order_svc.rpc.X",
        ),
        (
            "order_svc/operations.py",
            "if TYPE_CHECKING:\n    import grpc",
            "operations may not import grpc",
        ),
        ("order_svc/operations.py", "def f():\n    import grpc", "operations may not import grpc"),
        (
            "order_svc/operations.py",
            "importlib.import_module('grpc.aio')",
            "operations may not import grpc.aio",
        ),
        ("order_svc/rpc.py", "from order_svc import store", "rpc may not import order_svc.store"),
        ("order_svc/rpc.py", "import sqlalchemy", "rpc may not import sqlalchemy"),
        (
            "order_svc/consumers.py",
            "from nats import errors",
            "consumers may not import nats.errors",
        ),
        ("order_svc/consumers.py", "import grpc", "consumers may not import grpc"),
        (
            "order_svc/workers.py",
            "from order_svc.store import due",
            "workers may not import order_svc.store.due",
        ),
        (
            "order_svc/config.py",
            "from chassis.write import database",
            "config may not import chassis.write.database",
        ),
        (
            "order_svc/app.py",
            "from opentelemetry import trace",
            "app may not import opentelemetry.trace",
        ),
        (
            "order_svc/app.py",
            "from payment_svc import model",
            "order_svc imports another service, payment_svc",
        ),
        ("order_svc/helpers.py", "import json", "a service has no module called helpers"),
        (
            "payment_svc/providers/card.py",
            "from payment_svc.store import X",
            "providers may not import payment_svc.store.X",
        ),
        (
            "payment_svc/providers/card.py",
            "from chassis.consume.inbox import Inbox",
            "providers may not import chassis.consume.inbox.Inbox",
        ),
        (
            "chassis/write/database.py",
            "from order_svc import tables",
            "the chassis may not import order_svc",
        ),
        (
            "chassis/testing.py",
            "from tests.support import eventually",
            "the chassis may not import tests",
        ),
        (
            "omctl/__main__.py",
            "from order_svc.model import Order",
            "omctl is a client and imports a service, order_svc",
        ),
        ("omctl/watch.py", "import grpc", "only the chassis and the services may import grpc"),
        (
            "simulator/shoppers.py",
            "from chassis.write import database",
            "simulator is a client and may not import chassis.write.database",
        ),
        ("bench/writes.py", "import nats", "only the chassis and the services may import nats"),
        (
            "devstack/health.py",
            "from chassis.rpc.server import Server",
            "devstack is a client and may not import chassis.rpc.server.Server",
        ),
        ("chassis/x.py", "try:\n    f()\nexcept:\n    raise", "a bare except"),
        (
            "order_svc/decisions.py",
            "raise Refused('NO_SUCH_REASON', 'text')",
            "NO_SUCH_REASON is no ErrorReason",
        ),
        (
            "order_svc/decisions.py",
            "x = errors.Deferred('ERROR_REASON_INTERNAL')",
            "ERROR_REASON_INTERNAL is no ErrorReason",
        ),
        (
            "chassis/publish/relay.py",
            "async def f(js):\n    await js.publish_async('orders.x', b'')",
            "publish_async does not wait",
        ),
        (
            "simulator/shoppers.py",
            "publish = broker.streams.publish_async",
            "publish_async does not wait",
        ),
        (
            "tests/unit/test_x.py",
            "async def test_x() -> None:\n    assert True",
            "test_x does not state the fact that it proves",
        ),
    ],
)
def test_each_broken_rule_is_reported(path: str, code: str, fault: str) -> None:
    """The check reports each broken rule with its file and line."""
    (found,) = faults(PurePath(path), DOC + code)
    assert found.startswith(f"{path}:")
    assert fault in found


def test_file_without_a_docstring_is_reported() -> None:
    """A file has a docstring, except an empty one."""
    assert faults(PurePath("chassis/x.py"), "x = 1") == [
        "chassis/x.py:1: the file has no docstring"
    ]
    assert faults(PurePath("order_svc/__init__.py"), "") == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("order_svc/lifecycle.py", "from enum import StrEnum"),
        (
            "order_svc/model.py",
            "from chassis.values.money import Money\nfrom order_svc.lifecycle import Status",
        ),
        (
            "order_svc/decisions/cancel.py",
            "from order_svc.decisions.create import f\nfrom chassis.values.errors import Refused",
        ),
        (
            "order_svc/decisions.py",
            "from chassis.values import errors\nraise errors.Refused('ILLEGAL_TRANSITION')",
        ),
        (
            "order_svc/wire.py",
            "from google.type import money_pb2\nfrom ordermesh.order.v1 import order_pb2",
        ),
        ("order_svc/store.py", "import sqlalchemy as sa\nfrom chassis.write.tables import given"),
        ("order_svc/peers.py", "from chassis.rpc.client import Channel, ask"),
        (
            "order_svc/operations.py",
            "from chassis.write.database import Database\nfrom order_svc import decisions, store",
        ),
        ("order_svc/rpc.py", "import grpc\nfrom order_svc import wire"),
        (
            "order_svc/app.py",
            (
                "from order_svc import consumers, rpc, store\nfrom chassis.rpc.server import"
                " configured"
            ),
        ),
        ("payment_svc/providers/card.py", "import stripe\nfrom payment_svc.providers import port"),
        ("chassis/rpc/client.py", "import grpc\nfrom ordermesh.error.v1 import error_reason_pb2"),
        (
            "chassis/broker/stream.py",
            "async def f(js):\n    return await js.publish('orders.x', b'')",
        ),
        (
            "omctl/watch.py",
            "from chassis.rpc.client import ask, connect\nfrom ordermesh.order.v1 import order_pb2",
        ),
    ],
)
def test_permitted_import_is_not_reported(path: str, code: str) -> None:
    """Each module may import what the table gives it."""
    assert faults(PurePath(path), DOC + code) == []
