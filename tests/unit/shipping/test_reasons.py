"""The reasons and codes of shipping's code equal those of its contract."""

import ast
from pathlib import Path

from ordermesh.shipping.v1 import shipping_pb2

import shipping_svc
from shipping_svc.lifecycle import Reason
from tests.unit.enums import value_names

CODE = Path(str(shipping_svc.__file__)).parent


def nodes(*paths: Path) -> list[ast.AST]:
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def test_published_reasons_are_those_of_the_code() -> None:
    """ShipmentStatusReason has exactly the reasons of the code; the value is the name."""
    assert value_names(shipping_pb2.ShipmentStatusReason.DESCRIPTOR) == {
        reason.name for reason in Reason
    }
    assert [reason for reason in Reason if reason.value != reason.name] == []


def test_every_reason_is_written_by_the_code() -> None:
    """Each reason is named outside its enum: the test reports a published one that no code
    writes.
    """
    attributes = [node for node in nodes(*CODE.rglob("*.py")) if isinstance(node, ast.Attribute)]
    named = {
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert named == {reason.name for reason in Reason}


def test_published_carrier_codes_are_those_of_the_sandbox() -> None:
    """SandboxCarrierCode has exactly the codes with which the sandbox carrier refuses."""
    calls = [node for node in nodes(CODE / "providers/sandbox.py") if isinstance(node, ast.Call)]
    refusals = [
        node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "_refused"
    ]
    codes = {node.args[0].value for node in refusals if isinstance(node.args[0], ast.Constant)}
    assert codes == value_names(shipping_pb2.SandboxCarrierCode.DESCRIPTOR)
