"""The reasons of the order service's code equal those of its contract."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from ordermesh.error.v1.error_reason_pb2 import ErrorReason
from ordermesh.order.v1 import order_pb2, return_pb2

from order_svc import decisions
from order_svc.decisions.fulfillment import COMMITTED_ELSEWHERE
from order_svc.lifecycle import Reason, ReturnReason
from order_svc.wire.enums import STATE_OF_FULFILLMENT_STATUS

SERVICE = Path(decisions.__file__).parents[1]
# The modules that write reasons.
GIVING = [
    path
    for room in ("decisions", "operations", "wire")
    for path in SERVICE.glob(f"{room}/[a-z]*.py")
]
IN_CAPITALS = re.compile(r"[A-Z]+(_[A-Z]+)+")
ERRORS = frozenset(
    value.name.removeprefix("ERROR_REASON_") for value in ErrorReason.DESCRIPTOR.values
)
# The prefixes of the contract's enums.
ENUMS = [
    *order_pb2.DESCRIPTOR.enum_types_by_name.values(),
    *return_pb2.DESCRIPTOR.enum_types_by_name.values(),
]
PREFIXES = {enum.values[0].name.removesuffix("_UNSPECIFIED") for enum in ENUMS}
# Made of a fulfilment's status, see decisions/fulfillment.py.
STAGES = {f"FULFILLMENT_{work.name}" for work in STATE_OF_FULFILLMENT_STATUS.values()}


def texts(tree: ast.AST) -> Iterator[str]:
    """Returns the string constants of a program that have the form of a reason."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and IN_CAPITALS.fullmatch(node.value)
        ):
            yield node.value


def members(tree: ast.AST, of: str) -> Iterator[str]:
    """Returns the members of an enum that a program names."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == of
        ):
            yield node.attr


@pytest.mark.parametrize(
    ("reasons", "published", "prefix"),
    [
        (Reason, order_pb2.OrderStatusReason, "ORDER_STATUS_REASON_"),
        (ReturnReason, return_pb2.ReturnStatusReason, "RETURN_STATUS_REASON_"),
    ],
)
def test_reasons_are_those_that_the_contract_publishes(
    reasons: type[StrEnum], published: Any, prefix: str
) -> None:
    """Each reason of the code is a value of the contract's enum, and the reverse."""
    names = [
        value.name.removeprefix(prefix) for value in published.DESCRIPTOR.values if value.number
    ]
    assert [reason.value for reason in reasons] == names
    assert [reason.name for reason in reasons] == names


@pytest.mark.parametrize(("reasons", "made"), [(Reason, STAGES), (ReturnReason, set[str]())])
def test_each_reason_is_given_by_the_code(reasons: type[StrEnum], made: set[str]) -> None:
    """The order service writes each published reason."""
    named = {
        name for path in GIVING for name in members(ast.parse(path.read_text()), reasons.__name__)
    }
    assert named | made == set(reasons.__members__)


def test_code_writes_reasons_only_as_enum_members() -> None:
    """A constant in capitals is an error's reason, or a fulfilment's: each reason of the history is
    an enum member.
    """
    found = {text for path in GIVING for text in texts(ast.parse(path.read_text()))}
    assert found - ERRORS - PREFIXES == {COMMITTED_ELSEWHERE}
    assert not found & {*Reason.__members__, *ReturnReason.__members__}
