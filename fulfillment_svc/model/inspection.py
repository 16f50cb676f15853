"""Whose packages are inspected. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.values.money import Money
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.records import Line, Work


@dataclass(frozen=True, slots=True)
class InspectionPolicy:
    """Which packages are inspected before they leave. The first rule that holds is the one that is
    told.

    order_values  by currency, in minor units: orders of this total or more
    skus          picklists with one of these
    sample_rate   the share of all fulfilments, 0 to 1; which ones follows from the work alone, so
                  that a repeat decides alike
    """

    order_values: Mapping[str, int] = field(default_factory=dict)
    skus: frozenset[str] = frozenset()
    sample_rate: float = 0.0

    def rule(self, work: Work, total: Money, lines: tuple[Line, ...]) -> InspectionRule | None:
        """The rule by which this work is inspected, if there is one."""
        threshold = self.order_values.get(total.currency)
        if threshold is not None and total.minor >= threshold:
            return InspectionRule.ORDER_VALUE
        if any(line.sku in self.skus for line in lines):
            return InspectionRule.SKU
        return InspectionRule.SAMPLE if _lot(work) < self.sample_rate else None


def _lot(work: Work) -> float:
    """A number in [0, 1), evenly spread over all works, and always the same for one."""
    name = f"{work.order_id}:{work.attempt}:{work.warehouse_id}"
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11) / 2**53
