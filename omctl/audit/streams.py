"""Every event: does the stream have what the outbox has, and the outbox what the stream has?
Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from ordermesh.ops.v1 import ops_service_pb2 as ops

from omctl.audit.difference import ARRIVED, DEAD, Difference, Differences, cancel, check, republish
from omctl.audit.facts import Facts


@check("unmatched", rules=("database.restored",), by_service=True)
def restored_databases(facts: Facts, _patience: timedelta) -> Differences:
    """No stream has events that its outbox does not have. Its rule's name sorts before all
    others.
    """
    for service, unmatched in facts.unmatched.items():
        unknown = [each for each in unmatched if each.kind == ops.UNMATCHED_KIND_UNKNOWN]
        if not unknown:
            continue
        first = min(unknown, key=lambda each: each.event_time.ToNanoseconds())
        records = len({each.aggregate_id for each in unknown})
        text = (
            f"restored to a state before {first.event_time.ToJsonString()}: its stream has "
            f"{len(unknown)} events of {records} records that it does not have. "
            "Repair what is named below, and this last"
        )
        repair = f"omctl events adopt --service {service}"
        yield Difference(
            check="database.restored", subject=f"database of {service}", text=text, repair=repair
        )


@check("unmatched", rules=("event.lost",), by_service=True)
def lost_events(facts: Facts, _patience: timedelta) -> Differences:
    """Every event that is marked as published is in the stream."""
    for service, unmatched in facts.unmatched.items():
        for event in unmatched:
            if event.kind == ops.UNMATCHED_KIND_LOST:
                subject = f"event {event.event_id} of {service}"
                text = f"{event.type} of {event.aggregate_id}: published, and not in the stream"
                repair = republish(service, event.aggregate_id)
                yield Difference(check="event.lost", subject=subject, text=text, repair=repair)


def _told_again(order_id: str) -> str:
    """The order's events, for a service that has forgotten them and takes them anew."""
    return republish("order", order_id)


# What a service forgets when it is restored it cannot tell again: by rule, which service, and what
# repairs then the order that the difference is about.
FORGOTTEN: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "money.unpaid": ("payment", cancel),
    "money.owed": ("order", cancel),
    "order.stock": ("warehouse", cancel),
    "fulfillment.unknown": ("fulfillment", _told_again),
}


def after_restoration(facts: Facts, found: Difference) -> Difference:
    """The difference, with the command that repairs it where a restored database is its cause.

    An order that has ended cannot be cancelled: it stays as it is.
    """
    service, repair = FORGOTTEN.get(found.check, ("", cancel))
    order = facts.orders.get(found.subject.split()[1])  # these are about "order ID"
    if service not in facts.restored or order is None or order.status in DEAD | ARRIVED:
        return found
    return replace(found, repair=repair(order.order_id))
