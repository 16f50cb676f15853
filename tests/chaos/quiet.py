"""The end of a run: no work is under way, or nothing changes any more."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import order_pb2

from chassis.broker.stream import BROKER_ERRORS, DUPLICATE_WINDOW_S
from chassis.values.errors import Failure
from omctl.audit.facts import Facts, FactsReader
from omctl.audit.orders import OPEN_OPERATIONS
from tests.chaos.events import Events
from tests.facts import complete

# The end statuses of an order.
RESTING: Final = frozenset(
    {
        order_pb2.ORDER_STATUS_DELIVERED,
        order_pb2.ORDER_STATUS_CANCELLED,
        order_pb2.ORDER_STATUS_REFUNDED,
        order_pb2.ORDER_STATUS_FAILED,
    }
)
OPERATIONS: Final = "payment operations"
OUTBOX: Final = "events in the outbox"
LOOK_S: Final = 1.0
CALM_S: Final = 3.0  # how long nothing is under way
# How long nothing has changed while work is under way. Deferred events come again within ten
# seconds. The intervals of look-ups at a processor without an answer grow, and the run waits for
# them within its time.
STILL_S: Final = 25.0
# An event that the stream has lost waits until the broker no longer takes it for a repeat.
REPEATS_S: Final = DUPLICATE_WINDOW_S + 15.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """`under_way` is empty if all is at rest; `seconds` is the time of the wait."""

    seconds: float
    under_way: tuple[str, ...]


async def quiet(facts_reader: FactsReader, events: Events, *, timeout_s: float) -> Quiet:
    """Waits until all is at rest, for `timeout_s` at most."""
    began = changed = time.monotonic()
    before: tuple[object, ...] = ()
    under_way: tuple[str, ...] = ("no service answers",)
    while True:
        try:
            facts, waiting = await complete(facts_reader), await events.waiting()
        # a group: several services are called at once
        except (Failure, ExceptionGroup, *BROKER_ERRORS) as error:
            before, under_way = (), (f"no service answers: {error!r}",)
        else:
            under_way = (*_under_way(facts), *([f"{waiting} deliveries"] if waiting else []))
            if (now := (*_versions(facts), under_way)) != before:
                before, changed = now, time.monotonic()
        waits = {OPERATIONS: timeout_s, OUTBOX: REPEATS_S}
        still_max_s = max(
            (wait_s for each, wait_s in waits.items() if each in "\n".join(under_way)),
            default=STILL_S,
        )
        still_s, total_s = time.monotonic() - changed, time.monotonic() - began
        if (not under_way and still_s > CALM_S) or still_s > still_max_s or total_s > timeout_s:
            return Quiet(total_s, under_way)
        await asyncio.sleep(LOOK_S)  # the services are polled; the timeout bounds the loop


def _under_way(facts: Facts) -> Iterator[str]:
    """Returns the transient states."""
    if moving := sum(order.status not in RESTING for order in facts.orders.values()):
        yield f"{moving} orders"
    if open_ := sum(
        operation.outcome in OPEN_OPERATIONS
        for payment in facts.payments
        for operation in payment.operations
    ):
        yield f"{open_} {OPERATIONS}"
    for service, failed in facts.failed.items():
        if deferred := sum(
            event.state == ops_service_pb2.FAILED_EVENT_STATE_DEFERRED for event in failed
        ):
            yield f"{deferred} events deferred by {service}"
    for service, outbox in facts.outboxes.items():
        if outbox.waiting_count:
            yield f"{outbox.waiting_count} {OUTBOX} of {service}"


def _versions(facts: Facts) -> Iterator[object]:
    """Returns the values that change with each change."""
    for order in facts.orders.values():
        yield order.version
    for kind in (facts.returns, facts.payments, facts.fulfillments, facts.shipments):
        yield [(each.version, each.status) for each in kind]
    yield len(facts.movements)
    yield [
        [(event.event_id, event.attempts) for event in failed] for failed in facts.failed.values()
    ]
