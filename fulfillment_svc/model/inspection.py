"""Which packages are inspected. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.values.money import Money
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.records import FulfillmentKey, Line


@dataclass(frozen=True, slots=True)
class InspectionPolicy:
    """Which packages are inspected before they leave. The first rule that holds is the one
    that is stored.

    order_values  by currency, in minor units: orders of this total or more
    skus          picklists with one of these
    sample_rate   the share of all fulfilments, 0 to 1; the fulfilment's key alone decides, so a
                  repeat gets the same rule
    """

    order_values: Mapping[str, int] = field(default_factory=dict)
    skus: frozenset[str] = frozenset()
    sample_rate: float = 0.0

    def rule(
        self, key: FulfillmentKey, total: Money, lines: tuple[Line, ...]
    ) -> InspectionRule | None:
        """The rule by which this fulfilment is inspected, if there is one."""
        threshold = self.order_values.get(total.currency)
        if threshold is not None and total.minor >= threshold:
            return InspectionRule.ORDER_VALUE
        if any(line.sku in self.skus for line in lines):
            return InspectionRule.SKU
        return InspectionRule.SAMPLE if _sample_point(key) < self.sample_rate else None


def _sample_point(key: FulfillmentKey) -> float:
    """A number in [0, 1), evenly spread over all keys, and always the same for one."""
    name = f"{key.order_id}:{key.attempt}:{key.warehouse_id}"
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11) / 2**53
