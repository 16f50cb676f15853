"""Is every unit and every penny where it belongs, and does everything go on? Facts of all services, compared.

facts.py        what the services say, over their public methods
difference.py   what a check finds
stock.py        every unit
money.py        every penny
orders.py       every order: agreement, and whatever should go on by itself
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from omctl.audit import money, orders, stock
from omctl.audit.difference import Difference
from omctl.audit.facts import Facts, Witnesses

__all__ = ["Difference", "Facts", "Witnesses", "differences", "persisting"]

PATIENCE = timedelta(minutes=1)


def differences(facts: Facts, patience: timedelta = PATIENCE) -> list[Difference]:
    """All that these facts contradict each other in, sorted. `patience` is how long what goes on by itself may take."""
    found = [
        *stock.ledger(facts),
        *stock.promises(facts),
        *stock.held(facts, patience),
        *stock.allocations(facts),
        *stock.returned(facts),
        *stock.recalled(facts),
        *money.payments(facts),
        *money.charged_once(facts),
        *money.owed(facts),
        *money.returns(facts),
        *money.refunded_once(facts),
        *orders.fulfillments(facts),
        *orders.shipments(facts),
        *orders.stuck(facts, patience),
        *orders.events(facts, patience),
    ]
    return sorted(set(found))


async def persisting(
    witnesses: Witnesses, *, settle_s: float, readings: int = 3, patience: timedelta = PATIENCE
) -> tuple[Sequence[Difference], Facts]:
    """What differs in each of several readings, `settle_s` apart; and the facts of the last.

    The services go on meanwhile, and an event takes its time from one to the next: what is on its way differs for a moment, and never
    in the same words for long. Where the first reading finds nothing, it is the only one.
    """
    facts = await witnesses.tell()
    left = differences(facts, patience)
    for _ in range(readings - 1):
        if not left:
            break
        await asyncio.sleep(settle_s)
        facts = await witnesses.tell()
        left = sorted(set(left).intersection(differences(facts, patience)))
    return left, facts
