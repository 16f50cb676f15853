"""Checks of every event: the outbox and the stream have the same events. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from ordermesh.ops.v1 import ops_service_pb2 as ops

from omctl.audit.difference import (
    ARRIVED,
    CANCELLED_OR_FAILED,
    Difference,
    Differences,
    cancel,
    check,
    republish,
)
from omctl.audit.facts import Facts


@check("unmatched", rules=("database.restored",), by_service=True)
def restored_databases(facts: Facts, _stuck_after: timedelta) -> Differences:
    """No stream has events that its outbox lacks. The rule's name sorts before all others."""
    for service, unmatched in facts.unmatched.items():
        unknown = [each for each in unmatched if each.kind == ops.UNMATCHED_KIND_UNKNOWN]
        if not unknown:
            continue
        first = min(unknown, key=lambda each: each.event_time.ToNanoseconds())
        records = len({each.aggregate_id for each in unknown})
        text = (
            f"restored to a state before {first.event_time.ToJsonString()}: its stream has "
            f"{len(unknown)} events of {records} records that it does not have. "
            "Repair the differences below first, and this one last"
        )
        repair = f"omctl events adopt --service {service}"
        yield Difference(
            check="database.restored", subject=f"database of {service}", text=text, repair=repair
        )


@check("unmatched", rules=("event.lost",), by_service=True)
def lost_events(facts: Facts, _stuck_after: timedelta) -> Differences:
    """Every event that is marked as published is in the stream."""
    for service, unmatched in facts.unmatched.items():
        for event in unmatched:
            if event.kind == ops.UNMATCHED_KIND_LOST:
                subject = f"event {event.event_id} of {service}"
                text = f"{event.type} of {event.aggregate_id}: published, and not in the stream"
                repair = republish(service, event.aggregate_id)
                yield Difference(check="event.lost", subject=subject, text=text, repair=repair)


# A restored service cannot publish again the events that its database lost. By rule: the service,
# and the command that then repairs the order.
RESTORATION_REPAIRS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "money.unpaid": ("payment", cancel),
    "money.owed": ("order", cancel),
    "order.stock": ("warehouse", cancel),
    "fulfillment.unknown": ("fulfillment", partial(republish, "order")),
}


def after_restoration(facts: Facts, found: Difference) -> Difference:
    """Returns the difference, with another repair command if a restored database is its cause.

    An order that has ended cannot be cancelled: its difference keeps its command.
    """
    service, repair = RESTORATION_REPAIRS.get(found.check, ("", cancel))
    order = facts.orders.get(found.subject.split()[1])  # the subjects of these rules are "order ID"
    if (
        service not in facts.restored
        or order is None
        or order.status in CANCELLED_OR_FAILED | ARRIVED
    ):
        return found
    return replace(found, repair=repair(order.order_id))
