"""The operations that a payment's answer holds. Pure.

The refunds of a payment have no bound: each cut and each return of an order causes one, and none is
refused. An answer has a bound of 4 MiB.
"""

from collections.abc import Sequence
from dataclasses import replace

from payment_svc.lifecycle import OPEN, Kind
from payment_svc.model.records import Operation

# The widest operation and the widest contradiction have some 2 KiB and 5 KiB.
OPERATIONS_MAX = 500
CONTRADICTIONS_MAX = 100


def excerpt(operations: Sequence[Operation]) -> list[Operation]:
    """At most OPERATIONS_MAX of these operations, with CONTRADICTIONS_MAX contradictions together.

    The order stays. What an operator looks for comes before the rest: unresolved contradictions,
    and their operations; open operations; operations that are no refunds. Of equals the newest come
    first.
    """
    reports = [its for each in operations for its in each.contradictions]
    reports.sort(key=lambda its: (its.resolve_time is None, its.report_time), reverse=True)
    kept = {its.id for its in reports[:CONTRADICTIONS_MAX]}
    found = [
        replace(each, contradictions=tuple(c for c in each.contradictions if c.id in kept))
        for each in operations
    ]
    places = sorted(range(len(found)), key=lambda n: (*_rank(found[n]), n), reverse=True)
    return [found[n] for n in sorted(places[:OPERATIONS_MAX])]


def _rank(its: Operation) -> tuple[bool, bool, bool]:
    unresolved = any(each.resolve_time is None for each in its.contradictions)
    return unresolved, its.outcome in OPEN, its.kind is not Kind.REFUND
