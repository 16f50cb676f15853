"""The project keeps the rules of tests/unit/layers.py; for each rule a snippet breaks it."""

from pathlib import PurePath

import pytest

from tests.unit.layers import (
    CLIENTS,
    MODULE_RULES,
    ROOT,
    SERVICES,
    ModuleRule,
    faults,
    missing_modules,
)


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


def test_every_rule_names_an_existing_module() -> None:
    """Each service, client, module and chassis folder that a rule names exists."""
    assert missing_modules() == []


def test_rule_of_a_missing_module_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule for a module that no service has, and one that permits an import of a module that does
    not exist, are reported.
    """
    rule = ModuleRule(modules=frozenset({"model", "helpers"}), chassis=frozenset({"testing"}))
    monkeypatch.setitem(MODULE_RULES, "workers", rule)
    assert missing_modules() == ["*_svc/helpers", "*_svc/workers", "chassis/testing"]


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
        ("devstack/x.py", "import nats", "only the chassis and the services may import nats"),
        (
            "devstack/health.py",
            "from chassis.rpc.server import Server",
            "devstack is a client and may not import chassis.rpc.server.Server",
        ),
        ("chassis/x.py", "try:\n    f()\nexcept:\n    raise", "a bare except"),
        (
            "chassis/rpc/__init__.py",
            "from chassis.rpc.client import ask",
            "an __init__.py holds at most a docstring",
        ),
        (
            "order_svc/store/__init__.py",
            "TABLE = 1",
            "an __init__.py holds at most a docstring",
        ),
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
        (
            "order_svc/store.py",
            "import sqlalchemy as sa\nfrom chassis.write.tables import is_any_of",
        ),
        ("order_svc/peers.py", "from chassis.rpc.client import Channel, ask"),
        (
            "order_svc/operations.py",
            "from chassis.write.database import Database\nfrom order_svc import decisions, store",
        ),
        ("order_svc/rpc.py", "import grpc\nfrom order_svc import wire"),
        (
            "order_svc/app.py",
            "from order_svc import consumers, rpc, store\nfrom chassis.rpc.server import Server",
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
