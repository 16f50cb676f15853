"""The reasons of the code equal those of the contract."""

import ast
from pathlib import Path
from typing import Any

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2

from fulfillment_svc import decisions
from fulfillment_svc.lifecycle import InspectionRule, Reason, WithdrawReason


def published(enum: Any, prefix: str) -> set[str]:
    """Returns the names of the contract's enum, without their prefix."""
    return {name.removeprefix(f"{prefix}_") for name, number in enum.items() if number}


def written(kind: str) -> set[str]:
    """Returns the members of this enum that the decisions name."""
    return {
        node.attr
        for path in Path(decisions.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(
            node.value,
            ast.Name,
        )
        and node.value.id == kind
    }


def test_status_reasons_are_those_that_are_published() -> None:
    """FulfillmentStatusReason has exactly the reasons that the decisions write."""
    names = published(fulfillment_pb2.FulfillmentStatusReason, "FULFILLMENT_STATUS_REASON")
    assert names == {each.value for each in Reason}
    assert written("Reason") | written("WithdrawReason") == names


def test_withdraw_reasons_are_those_that_are_published() -> None:
    """FulfillmentWithdrawReason has exactly the reasons of a withdrawal.

    Each is a reason of a change too.
    """
    names = published(fulfillment_pb2.FulfillmentWithdrawReason, "FULFILLMENT_WITHDRAW_REASON")
    assert names == {each.value for each in WithdrawReason} == written("WithdrawReason")
    assert names <= {each.value for each in Reason}


@pytest.mark.parametrize("rule", InspectionRule)
def test_inspection_rule_has_the_published_name(rule: InspectionRule) -> None:
    """InspectionRule has exactly the rules that the service stores."""
    assert published(fulfillment_pb2.InspectionRule, "INSPECTION_RULE") >= {rule.name}
    assert len(published(fulfillment_pb2.InspectionRule, "INSPECTION_RULE")) == len(InspectionRule)
