"""Makes all checks of the audit, over several readings of the facts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from omctl.audit import money, orders, returned_units, stock, streams
from omctl.audit.difference import Check, Difference
from omctl.audit.facts import Facts, FactsReader, Gap

STUCK_AFTER = timedelta(minutes=1)

CHECKS: Final[Sequence[Check]] = (
    streams.restored_databases,
    streams.lost_events,
    stock.ledger,
    stock.held_units,
    stock.held_for_unknown_orders,
    stock.held_for_ended_attempts,
    stock.lines,
    stock.allocations,
    returned_units.returned,
    returned_units.returned_and_shipped,
    returned_units.recalled,
    money.payments,
    money.contradictions,
    money.charged_once,
    money.charged_for_unknown_orders,
    money.retained_of_ended_attempts,
    money.amounts_of_paid_orders,
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
    """The result of an audit. `gaps` are the facts that any reading lacked, `facts` the last
    reading.
    """

    found: Sequence[Difference]
    gaps: Sequence[Gap]
    facts: Facts


def differences(facts: Facts, stuck_after: timedelta = STUCK_AFTER) -> list[Difference]:
    """Returns all contradictions in these facts, sorted. Skips checks whose facts are missing.

    `stuck_after` is the time that an automatic step may take.
    """
    missing = {gap.field for gap in facts.gaps}
    able = [check for check in CHECKS if check.by_service or not check.needs & missing]
    every = {found for check in able for found in check.find(facts, stuck_after)}
    return sorted(streams.after_restoration(facts, found) for found in every)


def unchecked(gaps: Sequence[Gap]) -> list[str]:
    """Returns the names of the rules that need these missing facts, sorted.

    A rule that is checked for each service separately is named with each unchecked service.
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
    facts_reader: FactsReader,
    *,
    settle_s: float,
    readings: int = 3,
    stuck_after: timedelta = STUCK_AFTER,
) -> Audit:
    """Returns the differences that all of `readings` readings show, `settle_s` seconds apart.

    The services keep working meanwhile, and an event takes time from one service to the next. Such
    a difference disappears or changes between readings. If the first reading finds no difference,
    it is the only one.
    """
    facts = await facts_reader.read()
    remaining, gaps = (
        differences(facts, stuck_after),
        {(gap.service, gap.field): gap for gap in facts.gaps},
    )
    for _ in range(readings - 1):
        if not remaining:
            break
        await asyncio.sleep(settle_s)
        facts = await facts_reader.read()
        remaining = sorted(set(remaining).intersection(differences(facts, stuck_after)))
        gaps |= {(gap.service, gap.field): gap for gap in facts.gaps}
    return Audit(remaining, list(gaps.values()), facts)
