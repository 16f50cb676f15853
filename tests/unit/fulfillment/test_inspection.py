"""The choice of the packages to inspect: the rules, by a table."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from chassis.values.money import Money
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.inspection import InspectionPolicy
from tests.unit.fulfillment.samples import KEY, picking_line

POLICY = InspectionPolicy(
    order_values={"GBP": 100_00, "JPY": 20_000}, skus=frozenset({"Lamp, blue"}), sample_rate=0.0
)


@pytest.mark.parametrize(
    ("total", "sku", "rate", "rule"),
    [
        (Money(99_99, "GBP"), "mug", 0.0, None),
        (Money(100_00, "GBP"), "mug", 0.0, InspectionRule.ORDER_VALUE),
        (Money(100_01, "GBP"), "Lamp, blue", 1.0, InspectionRule.ORDER_VALUE),
        (Money(19_999, "JPY"), "mug", 0.0, None),
        (Money(20_000, "JPY"), "mug", 0.0, InspectionRule.ORDER_VALUE),
        (Money(1_000_000_00, "USD"), "mug", 0.0, None),
        (Money(0, "GBP"), "Lamp, blue", 1.0, InspectionRule.SKU),
        (Money(0, "GBP"), "lamp, blue", 0.0, None),
        (Money(0, "GBP"), "mug", 1.0, InspectionRule.SAMPLE),
    ],
)
def test_first_matching_inspection_rule_applies(
    total: Money, sku: str, rate: float, rule: InspectionRule | None
) -> None:
    """The rules apply by the order's value in its own currency, then by SKU (exact), then by
    sample.
    """
    assert (
        replace(POLICY, sample_rate=rate).rule(
            KEY, total, (picking_line(1, "tea", 1), picking_line(2, sku, 1))
        )
        is rule
    )


def test_nothing_is_inspected_unless_configured() -> None:
    """The policy without settings inspects nothing."""
    assert InspectionPolicy().rule(KEY, Money(10**12, "GBP"), (picking_line(1, "mug", 1),)) is None


def test_sample_has_its_rate_and_is_repeatable() -> None:
    """A rate of a quarter takes about a quarter of the keys, and takes the same ones each time."""
    policy = InspectionPolicy(sample_rate=0.25)
    keys = [replace(KEY, order_id=UUID(int=uuid4().int)) for _ in range(4000)]
    drawn = [policy.rule(key, Money(0, "GBP"), ()) for key in keys]
    assert drawn == [policy.rule(key, Money(0, "GBP"), ()) for key in keys]
    assert 0.2 < sum(rule is InspectionRule.SAMPLE for rule in drawn) / len(drawn) < 0.3
