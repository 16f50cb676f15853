"""A run: its own stack over proxies, shoppers and staff, faults; then the wait for rest, and the
verdict.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ordermesh.warehouse.v1 import inventory_service_pb2

from devstack.errors import DevstackError
from devstack.postgres import UNSAFE_ON_POWER_LOSS
from devstack.processes import Program
from devstack.stack import Stack
from omctl.audit.audit import persisting
from omctl.audit.difference import Difference
from omctl.audit.facts import Facts, FactsReader, facts_reader
from tests.chaos import plan, service, verdict
from tests.chaos.calls import Calls, calling
from tests.chaos.connections import known_connections, open_proxies
from tests.chaos.events import Events, subscribed
from tests.chaos.faults import Faults
from tests.chaos.plan import Fault
from tests.chaos.quiet import quiet
from tests.chaos.report import Report
from tests.chaos.scenarios import STOCK, Scenario, scenarios
from tests.chaos.shoppers import Lookout, Shop, Story
from tests.chaos.staff import Staff

STORY_S: Final = 90.0  # how long a shopper may wait after the last fault
QUIET_S: Final = 180.0  # longer than the broker's window for repeats
SETTLE_S: Final = 2.0
# Automatic work takes seconds, so that a run waits for it; packages are inspected often.
ENVIRONMENT: Final = {
    "DRAIN_DELAY_S": "0.1",
    "EXPIRY_INTERVAL_S": "1",
    "INSPECT_SAMPLE_RATE": "0.3",
    "LABEL_RETRY_AFTER_S": "3",
    "PENDING_COMMIT_INTERVAL_S": "1",
    "PROCESSOR_TIMEOUT_S": "1.5",
    "SETTLE_AFTER_S": "1",
}


class NotStarted(DevstackError):
    """The stack did not start: the run tried nothing and proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The settings of a run. `program` is the program of a service, `environment` is for the
    services.
    """

    seed: int
    duration_s: float
    faults: Sequence[Fault]
    shoppers: Sequence[Scenario]
    program: Program = service.program
    environment: Mapping[str, str] = field(default_factory=dict)


def by_chance(seed: int, duration_s: float, rate: float) -> Wanted:
    """Returns a run with faults and shoppers of every kind, `rate` shoppers a second."""
    return Wanted(
        seed=seed,
        duration_s=duration_s,
        faults=plan.faults(seed, duration_s, known_connections()),
        shoppers=list(scenarios(seed, duration_s, rate)),
    )


async def run(wanted: Wanted, folder: Path) -> Report:
    """Executes the run; the stack's logs stay in `folder`. Raises NotStarted, or another
    DevstackError if the services end before the run.
    """
    async with open_proxies() as proxies:
        stack = Stack(
            folder,
            settings=UNSAFE_ON_POWER_LOSS,
            environment=ENVIRONMENT | dict(wanted.environment),
            program=wanted.program,
            route=proxies.route,
        )
        async with (
            _up(stack),
            calling(stack.addresses) as calls,
            subscribed(stack.nats_url) as events,
            facts_reader(stack.addresses) as facts_source,
        ):
            await _stock(calls)
            faults, lookout, known = (
                Faults(stack=stack, proxies=proxies, events=events, seed=wanted.seed),
                Lookout(calls),
                dict[str, Scenario](),
            )
            async with _running(lookout.run(), Staff(calls, known).run()):
                stories = await _run_load(wanted, calls, faults, Shop(calls, lookout, known))
                calm = await quiet(facts_source, events, timeout_s=QUIET_S)
            faults.give_up()
            differences, facts = await _verdict(stack, calls, faults, stories, facts_source, events)
    return Report(
        seed=wanted.seed,
        duration_s=wanted.duration_s,
        strikes=faults.strikes,
        stories=stories,
        troubles=calls.troubles,
        answered=calls.answered,
        quiet=calm,
        facts=facts,
        differences=differences,
    )


@asynccontextmanager
async def _up(stack: Stack) -> AsyncIterator[None]:
    """Runs the stack inside. Raises NotStarted."""
    async with AsyncExitStack() as cleanup:
        try:
            await cleanup.enter_async_context(stack)
        except DevstackError as error:
            raise NotStarted(str(error)) from error
        yield


async def _run_load(wanted: Wanted, calls: Calls, faults: Faults, shop: Shop) -> list[Story]:
    """Runs shoppers and faults to their end; a shopper whose order is stuck is not waited for."""
    began = time.monotonic()
    for scenario in wanted.shoppers:
        shop.expect(scenario, began)
    await faults.run(wanted.faults, began)
    await asyncio.sleep(  # the rest of the run's length
        max(0.0, began + wanted.duration_s - time.monotonic())
    )
    await faults.heal()
    calls.calm_since = time.monotonic()
    return await shop.close(STORY_S)


async def _verdict(
    stack: Stack,
    calls: Calls,
    faults: Faults,
    stories: Sequence[Story],
    facts_source: FactsReader,
    events: Events,
) -> tuple[Sequence[Difference], Facts]:
    """Returns the audit's findings, and the breaches of the verdict."""
    audit = await persisting(
        facts_source, settle_s=SETTLE_S, stuck_after=timedelta(seconds=SETTLE_S)
    )
    if audit.gaps:
        raise DevstackError(f"The services do not answer, long after the last fault: {audit.gaps}")
    facts = audit.facts
    beside = [
        *verdict.client_answers(facts, stories),
        *verdict.resting(facts),
        *await verdict.histories(facts, calls),
        *await verdict.published(facts, events),
        *await verdict.processor(facts, stack.database_urls["payment"]),
        *verdict.faults(calls, faults.unclean),
    ]
    return [*audit.found, *beside], facts


async def _stock(calls: Calls) -> None:
    for warehouse in sorted({place for places in STOCK.values() for place in places}):
        lines = [
            inventory_service_pb2.ReceivedLine(sku=sku, quantity=places[warehouse])
            for sku, places in STOCK.items()
            if warehouse in places
        ]
        request = inventory_service_pb2.ReceiveStockRequest(
            request_id=str(uuid.uuid4()), warehouse_id=warehouse, lines=lines
        )
        await calls.ask(calls.inventory.ReceiveStock, request)


@asynccontextmanager
async def _running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs all of this inside. A bug in it ends the run."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError) and isinstance(ended, BaseException):
                raise ended
