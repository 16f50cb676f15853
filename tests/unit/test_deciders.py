"""Each command of each service has a decider, code that builds it, and a test."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from fulfillment_svc.decisions import deciders as fulfillment_deciders
from fulfillment_svc.model import commands as fulfillment_commands
from fulfillment_svc.model.commands import CancelFulfillment, Plan
from order_svc.decisions import deciders as order_deciders
from order_svc.model import commands as order_commands
from payment_svc.decisions import deciders as payment_deciders
from payment_svc.model import commands as payment_commands
from shipping_svc.decisions import deciders as shipping_deciders
from shipping_svc.model import commands as shipping_commands
from warehouse_svc.decisions import deciders as warehouse_deciders
from warehouse_svc.model import commands as warehouse_commands

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Service:
    """A service's commands and deciders.

    `others` names the dataclasses among the commands that are no commands: bases, parts and inputs.
    """

    commands: ModuleType
    deciders: Mapping[type[Any], Any]
    others: frozenset[str]

    @property
    def declared(self) -> dict[str, type[Any]]:
        """Returns the dataclasses that the module of commands defines, by name."""
        name = self.commands.__name__
        return {
            each: kind
            for each, kind in vars(self.commands).items()
            if is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == name
        }

    def undecided(self, deciders: Mapping[type[Any], Any]) -> set[str]:
        """Returns the commands without a decider in this table."""
        return self.declared.keys() - self.others - {kind.__name__ for kind in deciders}


SERVICES = {
    "fulfillment": Service(
        commands=fulfillment_commands,
        deciders=fulfillment_deciders.DECIDERS,
        others=frozenset(
            {
                "Committed",
                "NotCommitted",
                "OrderCommand",
                "OrderEvent",
                "Picklist",
                "Request",
                "Scan",
                "ShipmentCommand",
            },
        ),
    ),
    "order": Service(
        commands=order_commands,
        deciders=order_deciders.DECIDERS,
        others=frozenset(
            {
                "AttemptReport",
                "CommitPending",
                "CommitRefused",
                "Committed",
                "Findings",
                "Request",
                "ReturnRequest",
            },
        ),
    ),
    "payment": Service(
        commands=payment_commands,
        deciders=payment_deciders.DECIDERS,
        others=frozenset(
            {
                "CaptureRequest",
                "CreateRequest",
                "NewOperation",
                "OperationCommand",
                "RefundRequest",
                "PaymentRequest",
            },
        ),
    ),
    "warehouse": Service(
        commands=warehouse_commands,
        deciders=warehouse_deciders.DECIDERS,
        others=frozenset({"ShippedAfterVoid", "SpoiledLine", "FulfillmentLine"}),
    ),
    "shipping": Service(
        commands=shipping_commands,
        deciders={
            **shipping_deciders.DECIDERS,
            **shipping_deciders.ORDER_DECIDERS,
            **shipping_deciders.FULFILLMENT_DECIDERS,
        },
        others=frozenset(),
    ),
}


@pytest.mark.parametrize("service", SERVICES)
def test_every_command_has_a_decider(service: str) -> None:
    """A new dataclass among the commands needs a decider, or a place in `others`."""
    table = SERVICES[service]
    assert table.undecided(table.deciders) == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_decider_has_a_command(service: str) -> None:
    """The table has only commands of this service, and each name of `others` exists."""
    table = SERVICES[service]
    assert set(table.deciders) <= set(table.declared.values())
    assert table.others <= table.declared.keys()
    assert not table.others & {kind.__name__ for kind in table.deciders}


@pytest.mark.parametrize("service", SERVICES)
def test_every_decider_takes_its_own_command(service: str) -> None:
    """The annotation of the decider's command is the table's key. mypy does not compare the two."""
    taken = {
        kind: get_type_hints(decider)["command"]
        for kind, decider in SERVICES[service].deciders.items()
    }
    assert taken == {kind: kind for kind in taken}


@pytest.mark.parametrize("service", SERVICES)
def test_every_command_is_built_and_tested(service: str) -> None:
    """`wire` or an operation builds each command, and a test names it. This test prints the
    commands that no module builds or tests.
    """
    package = ROOT / f"{service}_svc"
    building = [*package.glob("wire/*.py"), *package.glob("operations/*.py")]
    tests = [path for path in ROOT.glob("tests/*/**/*.py") if path != Path(__file__)]
    commands = {kind.__name__ for kind in SERVICES[service].deciders}
    assert commands - _names(building) == set()
    assert commands - _names(tests) == set()


def _names(paths: Iterable[Path]) -> set[str]:
    """Returns the names that the modules use; an import alone is no use."""
    return {
        node.id
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name)
    }


def test_command_without_decider_is_named() -> None:
    """The test above reports a command without a decider: it compares the tables."""
    table = SERVICES["fulfillment"]
    less = {
        kind: each for kind, each in table.deciders.items() if kind not in (Plan, CancelFulfillment)
    }
    assert table.undecided(less) == {"Plan", "CancelFulfillment"}
