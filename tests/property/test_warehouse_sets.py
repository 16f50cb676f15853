"""A set of commands of the warehouse service equals the same commands one by one."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from tests.property.set_histories import (
    Commands,
    History,
    Records,
    histories,
    numbered,
    write_history,
)
from tests.property.sets import BothWays, RecordKind, both_ways, examples
from tests.property.test_stock_conservation import (
    beginning,
    commands,
    first,
    mostly_london,
    old,
    orders,
    picklists,
    skus,
    warehouses,
)
from tests.unit.warehouse.world import (
    NOON,
    TTL,
    adjust,
    changed,
    close_attempt,
    confirm,
    expire,
    receive,
    renew,
    report_picklist,
    reserve,
)
from warehouse_svc import tables
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.model.commands import AdjustStock, ReceiveStock, ShippedAfterVoid
from warehouse_svc.model.records import Reservation
from warehouse_svc.store.workspace import lock_stock, save_stock
from warehouse_svc.wire.events_out import outgoing_event

STOCK = RecordKind(load=lock_stock, decide=decide, save=save_stock)

counting = st.builds(
    lambda warehouse, sku, delta, version: adjust(warehouse, sku, delta, expected_version=version),
    warehouses,
    skus,
    st.sampled_from([-2, -1, 1]),
    st.integers(1, 9),
)
# A parcel has left after its label was void.
leaving = st.builds(
    lambda at, picklist, order, attempt, shipped: changed(
        report_picklist(at, picklist, order, attempt),
        shipped_after_void=ShippedAfterVoid(UUID(int=900 + order.int), shipped),
    ),
    mostly_london,
    picklists,
    old,
    first,
    st.dictionaries(st.sampled_from([1, 2]), st.integers(1, 2), min_size=1),
)
# The expiry worker's command, a count and a confirmation or renewal meet in one set.
expiring = st.builds(
    lambda last, order, units: [expire(order), adjust("london", "tea", -units), last(order)],
    st.sampled_from([confirm, renew]),
    st.sampled_from([UUID(int=1), UUID(int=1), UUID(int=2)]),
    st.integers(1, 3),
)
# Stock in which units that have expired can be replaced.
BEGINNING = [*beginning(), receive("york", tea=5, cup=5)]
any_command = st.one_of(commands, commands, counting, leaving, st.builds(expire, orders))


def of_request(command: Envelope[Any], number: int, records: Records) -> Envelope[Any]:
    """Returns the command with its key. The target of a receipt or a count is its request."""
    own = numbered(command, number, records)
    if isinstance(command.command, ReceiveStock | AdjustStock):
        return replace(own, target=UUID(int=10**9 + number))
    return own


@pytest.fixture
async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
    async with both_ways(migrated_database, "warehouse_svc", tables, outgoing_event) as both:
        yield both


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(st.just(BEGINNING), any_command, expiring))
async def test_set_of_stock_commands_equals_them(both: BothWays, history: History) -> None:
    """Any commands, repeats and reused keys among them, have the same outcomes, rows and events as
    one set and one by one.
    """
    await write_history(both, Commands(kind=STOCK, make=of_request, start=NOON), history)


LATER = NOON + 2 * TTL
ORDER, OTHER = UUID(int=1), UUID(int=2)


def reservation(outcome: object, attempt: int = 1) -> Reservation:
    """Returns the reservation of an attempt that one warehouse serves."""
    assert isinstance(outcome, Done), outcome
    [found] = outcome.record.order_reservations.of_attempt(attempt)
    assert isinstance(found, Reservation)
    return found


async def test_confirm_after_expiry_in_a_set_commits(both: BothWays) -> None:
    """Units that expire and are sold within the set are committed from another warehouse."""
    await both.write(STOCK, [receive("london", tea=2), receive("york", tea=2)], NOON)
    await both.write(STOCK, [reserve(("tea", 2))], NOON)
    some = [expire(), adjust("london", "tea", -2), confirm()]
    *_, confirmed = await both.write(STOCK, some, LATER)
    assert reservation(confirmed).warehouse_id == "york"


async def test_renewal_after_expiry_in_a_set_reserves(both: BothWays) -> None:
    """Units that expire and are sold within the set are reserved in another warehouse."""
    await both.write(STOCK, [receive("london", tea=2), receive("york", tea=2)], NOON)
    await both.write(STOCK, [reserve(("tea", 2))], NOON)
    some = [expire(), adjust("london", "tea", -2), renew()]
    *_, renewed = await both.write(STOCK, some, LATER)
    assert reservation(renewed).warehouse_id == "york"


async def test_renewal_in_a_set_chooses_as_alone(both: BothWays) -> None:
    """A renewal chooses among all warehouses, also where no other command of its set locks them."""
    await both.write(STOCK, [receive("london", tea=1), receive("york", tea=1)], NOON)
    await both.write(STOCK, [reserve(("tea", 2))], NOON)
    await both.write(STOCK, [receive("leeds", tea=9)], NOON)
    some = [reserve(("tea", 1), order=OTHER), renew()]
    *_, renewed = await both.write(STOCK, some, LATER)
    assert reservation(renewed).warehouse_id == "leeds"


async def test_receipt_on_two_paths_in_a_set_is_posted_once(both: BothWays) -> None:
    """A request that was posted in the set is not posted again under another key."""
    receipt = receive("london", request=7, tea=2)
    again = replace(receipt, key="again")
    first, second = await both.write(STOCK, [receipt, again], NOON)
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert [first.skipped, second.skipped] == [False, True]


async def test_attempts_of_one_set_change_in_their_stored_order(both: BothWays) -> None:
    """Two attempts that are reserved in one set have ids of the same millisecond. A later command
    of the set releases them in the order of their ids, as it does when it loads them.
    """
    await both.write(STOCK, [receive("london", tea=40)], NOON)
    some: list[Envelope[Any]] = []
    for number in range(10, 15):
        order = UUID(int=number)
        some += [numbered(reserve(("tea", 1), order=order), number, {})]
        some += [numbered(reserve(("tea", 1), order=order, attempt=2), 100 + number, {})]
        some += [close_attempt(order, 2)]
    await both.write(STOCK, some, NOON)
