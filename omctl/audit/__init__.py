"""Is every unit and every penny where it belongs, and does everything go on? Facts of all services,
compared.

facts.py        what the services say, over their public methods
difference.py   what a check is, and what it finds
stock.py        every unit
money.py        every penny
streams.py      every event: outbox and stream
orders.py       every order: agreement, and whatever should go on by itself
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from omctl.audit import money, orders, stock, streams
from omctl.audit.difference import Check, Difference
from omctl.audit.facts import Facts, Gap, Witnesses

__all__ = [
    "CHECKS",
    "Audit",
    "Difference",
    "Facts",
    "Gap",
    "Witnesses",
    "differences",
    "persisting",
    "unchecked",
]

PATIENCE = timedelta(minutes=1)

CHECKS: Final[Sequence[Check]] = (
    streams.restored_databases,
    streams.lost_events,
    stock.ledger,
    stock.promises,
    stock.held_for_no_order,
    stock.held_for_the_dead,
    stock.lines,
    stock.allocations,
    stock.returned,
    stock.came_back,
    stock.recalled,
    money.payments,
    money.contradictions,
    money.charged_once,
    money.charged_for_no_order,
    money.kept_for_the_dead,
    money.owed,
    money.returns,
    money.refunded_once,
    orders.fulfillments,
    orders.shipments,
    orders.stuck_orders,
    orders.stuck_withdrawals,
    orders.stuck_fulfillments,
    orders.stuck_labels,
    orders.stuck_payments,
    orders.stuck_returns,
    orders.failed_events,
    orders.waiting_events,
    orders.refused_events,
)


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found. `gaps` are what one of its readings lacked, `facts` the last
    reading.
    """

    found: Sequence[Difference]
    gaps: Sequence[Gap]
    facts: Facts


def differences(facts: Facts, patience: timedelta = PATIENCE) -> list[Difference]:
    """All that these facts contradict each other in, sorted, by the checks whose facts are there.

    `patience` is how long what goes on by itself may take.
    """
    missing = {gap.field for gap in facts.gaps}
    able = [check for check in CHECKS if check.by_service or not check.needs & missing]
    every = {found for check in able for found in check.find(facts, patience)}
    return sorted(streams.after_restoration(facts, found) for found in every)


def unchecked(gaps: Sequence[Gap]) -> list[str]:
    """The rules that could not be checked without these facts, sorted.

    A rule that is checked service by service is named with the services that it was not checked
    for.
    """
    missing = {gap.field for gap in gaps}
    left_out: set[str] = set()
    for check in CHECKS:
        if check.by_service:
            services = {gap.service for gap in gaps if gap.field in check.needs}
            left_out |= {f"{rule} of {service}" for rule in check.rules for service in services}
        elif check.needs & missing:
            left_out |= check.rules
    return sorted(left_out)


async def persisting(
    witnesses: Witnesses,
    *,
    settle_s: float,
    readings: int = 3,
    patience: timedelta = PATIENCE,
) -> Audit:
    """What differs in each of several readings, `settle_s` apart.

    The services go on meanwhile, and an event takes its time from one to the next: what is on its
    way differs for a moment, and never in the same words for long. Where the first reading finds
    nothing, it is the only one.
    """
    facts = await witnesses.read()
    left, gaps = differences(facts, patience), {(gap.service, gap.field): gap for gap in facts.gaps}
    for _ in range(readings - 1):
        if not left:
            break
        await asyncio.sleep(settle_s)
        facts = await witnesses.read()
        left = sorted(set(left).intersection(differences(facts, patience)))
        gaps |= {(gap.service, gap.field): gap for gap in facts.gaps}
    return Audit(left, list(gaps.values()), facts)
