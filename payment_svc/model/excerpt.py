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

    They stay in their order. Where there are more, those that an operator looks for are taken
    first: operations with unresolved contradictions; open operations; operations that are no
    refunds. Of equals the newest are taken first; unresolved contradictions before resolved ones.
    """
    reports = sorted(
        (report for each in operations for report in each.contradictions),
        key=lambda report: (report.resolve_time is None, report.report_time),
        reverse=True,
    )
    included = {report.id for report in reports[:CONTRADICTIONS_MAX]}
    candidates = [
        replace(each, contradictions=tuple(c for c in each.contradictions if c.id in included))
        for each in operations
    ]
    places = sorted(range(len(candidates)), key=lambda n: (*_rank(candidates[n]), n), reverse=True)
    return [candidates[n] for n in sorted(places[:OPERATIONS_MAX])]


def _rank(operation: Operation) -> tuple[bool, bool, bool]:
    unresolved = any(each.resolve_time is None for each in operation.contradictions)
    return unresolved, operation.outcome in OPEN, operation.kind is not Kind.REFUND
