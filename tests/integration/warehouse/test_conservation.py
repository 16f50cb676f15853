"""The store does what the decisions say: random histories on a real PostgreSQL and in memory end
the same, and no unit is lost.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import text

from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from tests.integration.warehouse.requests import as_stored
from tests.property.test_stock_conservation import beginning, histories
from tests.unit.warehouse.world import World, changed
from warehouse_svc import tables
from warehouse_svc.app import Operations
from warehouse_svc.model.commands import ApplyAllocations
from warehouse_svc.model.records import Reservation
from warehouse_svc.wire import events_out

SHIFT = text("update reservations set expire_time = expire_time - make_interval(mins => :minutes)")


def ended(outcomes: Sequence[Outcome[Any]]) -> list[str]:
    return [outcome.reason if isinstance(outcome, Failure) else "done" for outcome in outcomes]


def translated(command: Envelope[Any], world: World, stored: World) -> Envelope[Any]:
    """Returns the command with the ids of the stored reservations, which another clock made than
    those in memory.
    """
    allocations = command.command
    if not isinstance(allocations, ApplyAllocations):
        return command
    names = {natural(r): r.id for r in reservations(stored)}
    ids = {r.id: names[natural(r)] for r in reservations(world)}
    return changed(
        command,
        allocated={
            (ids[id], number): units for (id, number), units in allocations.allocated.items()
        },
    )


def reservations(world: World) -> list[Reservation]:
    return [r for each in world.order_reservations.values() for r in each.reservations]


def natural(one: Reservation) -> tuple[Any, ...]:
    return one.order_id, one.attempt, one.generation, one.warehouse_id


def seen(world: World) -> tuple[Any, ...]:
    """Returns the contents of a world without ids and times, which depend on the clock."""
    by_order = {
        order: (
            each.closed_attempt,
            each.version,
            each.lines,
            sorted(
                (r.attempt, r.generation, r.warehouse_id, r.status, r.version, r.lines)
                for r in each.reservations
            ),
        )
        for order, each in world.order_reservations.items()
    }
    levels = {
        place: (world.balances(*place), level.version) for place, level in world.levels.items()
    }
    ledger = sorted(
        (m.warehouse_id, m.sku, m.level_version, m.kind, m.quantity, m.cumulative)
        for m in world.ledger
    )
    return by_order, levels, ledger


# A failure is not shrunk: each example has a database of its own. tests/property checks the same of
# decisions alone, and shrinks.
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories)
async def test_random_histories_end_as_in_memory(
    migrated_database: Callable[[str], str], history: list[tuple[list[Envelope[Any]], int]]
) -> None:
    """Each command is answered the same, and the tables say the same, as when it is decided in
    memory; the stock is conserved.

    Sets are of one kind of command, as the doors make them.
    """
    engine, world = connect(migrated_database("warehouse_svc")), World()
    operations = Operations(
        Database(
            engine, tables.idempotency_keys, Outbox(tables.outbox, encode=events_out.outgoing_event)
        )
    )
    try:
        for some, minutes in [(beginning(), 0), *history]:
            for _, same in groupby(some, lambda each: type(each.command)):
                commands, stored = list(same), await as_stored(engine)
                outcomes = await operations.writer.write(
                    [translated(command, world, stored) for command in commands]
                )
                assert ended(outcomes) == ended(world.try_all(*commands))
            world.pass_time(timedelta(minutes=minutes))
            async with engine.begin() as connection:
                await connection.execute(SHIFT, {"minutes": minutes})
        stored = await as_stored(engine)
        stored.check()
        assert seen(stored) == seen(world)
    finally:
        await engine.dispose()
