"""The import rules of the project's modules, and the habits that no linter checks. No tests here.

`architecture` in the docs has the reasons; the tables below have the rules.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeGuard

from ordermesh.error.v1.error_reason_pb2 import ErrorReason

from chassis.values import errors

ROOT = Path(__file__).parents[2]
SERVICES = frozenset(
    {"order_svc", "warehouse_svc", "fulfillment_svc", "shipping_svc", "payment_svc"}
)
CLIENTS = frozenset({"omctl", "simulator", "devstack"})
# The generated contracts, and Google's messages that they use.
CONTRACTS = frozenset({"ordermesh", "buf", "google"})
ALL = frozenset({"*"})


@dataclass(frozen=True, slots=True, kw_only=True)
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
    "rpc": _module_rule("wire model operations", "*", "grpc", contracts=True),
    "consumers": _module_rule("wire model operations", "*", "uuid_utils", contracts=True),
    "config": _module_rule("", "values", "pydantic pydantic_settings"),
    "app": _module_rule("*", "*", contracts=True),
    "migrations": _module_rule("", "write", "alembic sqlalchemy"),
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


def missing_modules() -> list[str]:
    """Returns the path of each module or folder that a rule names and the project does not have,
    without its suffix.
    """
    named = SERVICES | CLIENTS
    named |= {f"chassis/{name}" for name in CHASSIS}
    named |= {f"chassis/{name.replace('.', '/')}" for name in CLIENT_SIDE}
    for module, rule in MODULE_RULES.items():
        named |= {f"*_svc/{name}" for name in {module} | rule.modules}
        named |= {f"chassis/{name}" for name in rule.chassis}
    return [
        path
        for path in sorted(named)
        if not any(ROOT.glob(path)) and not any(ROOT.glob(f"{path}.py"))
    ]


# --- one file


def faults(path: PurePath, source: str) -> list[str]:
    """Returns a sentence for each rule that the file (its path in the project) breaks."""
    tree = ast.parse(source)
    found = [
        *_import_faults(path, tree),
        *_habit_faults(path, tree),
    ]
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
    if path.name == "__init__.py" and path.parts[0] in SERVICES | {"chassis"} and tree.body[1:]:
        yield tree.body[1].lineno, "an __init__.py holds at most a docstring"
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
