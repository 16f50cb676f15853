"""The report of a run: the effective faults, the orders' ends, the times of recovery, the
differences. Pure.
"""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.v1 import payment_pb2

from omctl.audit.difference import Difference
from omctl.audit.facts import Facts
from omctl.names import name_of
from tests.chaos.faults import Strike
from tests.chaos.quiet import Quiet
from tests.chaos.shoppers import Story

SHOWN_MAX = 60
SLOWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a run."""

    seed: int
    duration_s: float
    strikes: Sequence[Strike]
    stories: Sequence[Story]
    troubles: Mapping[str, int]
    answered: int
    quiet: Quiet
    facts: Facts
    differences: Sequence[Difference]

    @property
    def healthy(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def lines(self) -> Iterator[str]:
        """Returns the report for people."""
        yield (
            f"seed {self.seed}: {len(self.stories)} shoppers in {self.duration_s:.0f} s,"
            f" {self.answered} calls answered"
        )
        yield from self._faults()
        yield "orders:    " + _counts(self.orders())
        yield "payments:  " + _counts(
            Counter(name_of(payment_pb2.PaymentStatus, each.status) for each in self.facts.payments)
        )
        yield "returns:   " + _counts(
            Counter(name_of(return_pb2.ReturnStatus, each.status) for each in self.facts.returns)
        )
        yield f"refunds:   {len(self.facts.refunds)};  stock movements: {len(self.facts.movements)}"
        yield "refusals:  " + _counts(
            Counter(why for story in self.stories for why in story.refusals)
        )
        yield "calls that were made again, or refused: " + _counts(Counter(self.troubles))
        yield f"quiet after {self.quiet.seconds:.1f} s" + (
            f", with {', '.join(self.quiet.under_way)}" if self.quiet.under_way else ""
        )
        yield (
            f"{len(self.differences)} differences"
            if self.differences
            else "no difference: every unit and every penny is accounted for"
        )
        for each in self.differences[:SHOWN_MAX]:
            yield f"  {each.check}: {each.subject}: {each.text}" + (
                f"    {each.repair}" if each.repair else ""
            )
        if len(self.differences) > SHOWN_MAX:
            yield f"  and {len(self.differences) - SHOWN_MAX} more"

    def _faults(self) -> Iterator[str]:
        struck = [strike for strike in self.strikes if strike.evidence]
        yield f"faults that struck: {len(struck)} of {len(self.strikes)} that were tried"
        tried, hit = (
            Counter(strike.fault.kind for strike in self.strikes),
            Counter(strike.fault.kind for strike in struck),
        )
        yield "  " + ", ".join(
            f"{kind} {hit[kind]}/{count}" for kind, count in sorted(tried.items())
        )
        for strike in self.strikes:
            recovered = (
                f", progress {strike.recovered_s:.2f} s after"
                if strike.recovered_s is not None
                else ""
            )
            yield (
                f"  {strike.fault}: {strike.evidence or strike.trouble or 'met nothing'}{recovered}"
            )
        times = sorted(strike.recovered_s for strike in struck if strike.recovered_s is not None)
        if times:
            slowest = ", ".join(f"{seconds:.1f}" for seconds in times[-SLOWEST:])
            yield (
                f"progress after a fault's end: median {statistics.median(times):.2f} s, slowest"
                f" {slowest} s"
            )

    def orders(self) -> Counter[str]:
        """Returns the number of orders by status and reason."""
        return Counter(
            f"{name_of(order_pb2.OrderStatus, each.status)} ({each.status_reason})"
            for each in self.facts.orders.values()
        )

    def document(self) -> str:
        """Returns the report for programs, as JSON."""
        document: dict[str, Any] = {
            "seed": self.seed,
            "duration_s": self.duration_s,
            "shoppers": len(self.stories),
            "orders": self.orders(),
            "faults": [
                {
                    "at_s": strike.fault.at_s,
                    "lasts_s": strike.fault.lasts_s,
                    "kind": strike.fault.kind,
                    "target": strike.fault.target,
                    "evidence": strike.evidence,
                    "trouble": strike.trouble,
                    "recovered_s": strike.recovered_s,
                }
                for strike in self.strikes
            ],
            "quiet_s": self.quiet.seconds,
            "under_way": self.quiet.under_way,
            "troubles": self.troubles,
            "differences": [
                {"check": d.check, "subject": d.subject, "text": d.text, "repair": d.repair}
                for d in self.differences
            ],
        }
        return json.dumps(document, indent=1, default=str)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common()) or "none"
