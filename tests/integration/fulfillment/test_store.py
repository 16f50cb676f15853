"""The tables enforce the invariants and return the stored records."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from chassis.values.envelope import Envelope
from chassis.values.paging import Page
from fulfillment_svc.lifecycle import InspectionRule, Reason, Status
from fulfillment_svc.model.commands import StartPicking
from fulfillment_svc.model.filters import FulfillmentFilter
from fulfillment_svc.model.records import (
    Allocation,
    Fulfillment,
    OrderFulfillments,
    Package,
    PackedItem,
    RemainingUnits,
    Transition,
)
from fulfillment_svc.store import fulfillments as store
from fulfillment_svc.store.workspace import lock_order_fulfillments, save_order_fulfillments
from fulfillment_svc.tables import (
    fulfillments,
    history,
    items,
    lines,
    orders,
    packages,
    remaining_units,
)
from fulfillment_svc.wire import responses
from tests.unit.fulfillment.samples import (
    ID,
    KEY,
    LINES,
    NOW,
    SHIPMENT,
    envelope,
    fulfillment_in,
    picking_line,
    plan,
)

TWO_PACKAGES = (
    Package(
        weight_grams=900,
        length_mm=300,
        width_mm=200,
        height_mm=100,
        items=(PackedItem(1, 1), PackedItem(2, 1)),
    ),
    Package(
        weight_grams=1500,
        length_mm=400,
        width_mm=300,
        height_mm=200,
        items=(PackedItem(1, 1), PackedItem(4, 3)),
    ),
)
CREATION = Transition(
    fulfillment_id=ID,
    version=1,
    old=None,
    new=Status.PENDING,
    reason=Reason.ORDER_CONFIRMED,
    actor="order",
    cause="event-1",
    time=NOW,
)


async def saved(
    engine: AsyncEngine,
    *records: Fulfillment,
    before: tuple[Fulfillment, ...] = (),
    transitions: tuple[Transition, ...] = (),
) -> None:
    """Stores the records in place of those before."""
    async with engine.begin() as connection:
        known = insert(orders).on_conflict_do_nothing()
        await connection.execute(
            known, [{"order_id": each.key.order_id, "closed_attempt": 0} for each in records]
        )
        was, now = {each.id: each for each in before}, {each.id: each for each in records}
        await store.save_fulfillments(connection, was, now, transitions)


async def found(engine: AsyncEngine, id: UUID = ID) -> Fulfillment:
    """Returns the stored record."""
    async with engine.connect() as connection:
        return (await store.find_fulfillments(connection, [id]))[id]


@pytest.mark.parametrize("status", Status)
async def test_stored_record_is_read_unchanged(engine: AsyncEngine, status: Status) -> None:
    """A record with all its parts is the same after it is stored and read, in every status."""
    new = fulfillment_in(Status.PLANNING, rule=InspectionRule.SAMPLE)
    await saved(engine, new)
    assert await found(engine) == new
    grown = replace(fulfillment_in(status, rule=InspectionRule.SAMPLE), version=7)
    if grown.packages:
        grown = replace(grown, packages=TWO_PACKAGES)
    await saved(engine, grown, before=(new,))
    assert await found(engine) == grown


async def test_packages_and_counts_can_be_taken_back(engine: AsyncEngine) -> None:
    """After a failed inspection the tables hold no package and no scan; later ones can be
    stored.
    """
    new = fulfillment_in(Status.PLANNING)
    packed = replace(fulfillment_in(Status.PACKED), packages=TWO_PACKAGES)
    unpacked = fulfillment_in(Status.PICKING)
    again = fulfillment_in(Status.READY)
    for before, after in [(new, packed), (packed, unpacked), (unpacked, again)]:
        if before is new:
            await saved(engine, new)
        await saved(engine, after, before=(before,))
        assert await found(engine) == after


async def test_stored_picklist_is_replaced_by_later_lines(engine: AsyncEngine) -> None:
    """Other lines replace the old ones: a late commit can use other warehouses than the
    reservation.
    """
    new = fulfillment_in(Status.PLANNING)
    for lines_now in [(picking_line(1, "mug", 1), picking_line(9, "cup", 2)), ()]:
        moved = replace(new, lines=lines_now)
        await (saved(engine, new) if new.lines == LINES else saved(engine, new, before=(new,)))
        await saved(engine, moved, before=(new,))
        assert await found(engine) == moved
        new = moved


async def test_record_is_found_by_order_and_fulfilments(engine: AsyncEngine) -> None:
    """An event of the order, a command about a fulfilment and a repeat each find the one whole
    record, under every id.
    """
    new, other = (
        fulfillment_in(Status.PLANNING),
        replace(
            fulfillment_in(Status.PLANNING), id=uuid4(), key=replace(KEY, warehouse_id="LEEDS")
        ),
    )
    stranger = replace(
        fulfillment_in(Status.PLANNING), id=uuid4(), key=replace(KEY, order_id=uuid4())
    )
    await saved(engine, new, other, stranger)
    asked: list[tuple[list[Envelope[Any]], set[UUID]]] = [
        ([plan()], set()),
        ([envelope(StartPicking)], set()),
        ([], {other.id}),
        ([plan()], {other.id, ID}),
    ]
    for commands, repeats in asked:
        async with engine.begin() as connection:
            workspace = await lock_order_fulfillments(connection, commands, repeats)
        assert workspace.before.keys() == {KEY.order_id}
        order = workspace.get(KEY.order_id)
        assert order
        assert order.fulfillments == tuple(sorted((new, other), key=lambda each: each.id))
        assert [workspace.get(each.id) for each in (new, other)] == [order, order]
    async with engine.begin() as connection:
        unknown = envelope(StartPicking, target=uuid4())
        workspace = await lock_order_fulfillments(connection, [unknown], set())
        assert workspace.before == {}


async def test_remaining_units_are_stored_and_read(engine: AsyncEngine) -> None:
    """The remaining units and the closed attempts are read as they were saved last, without the
    rows that they replaced.
    """
    new = OrderFulfillments(order_id=KEY.order_id)
    for now in [
        replace(
            new,
            remaining=RemainingUnits(
                1,
                3,
                (Allocation("DOVER", 1, 2), Allocation("LEEDS", 1, 1), Allocation("LEEDS", 2, 1)),
            ),
        ),
        replace(
            new, remaining=RemainingUnits(1, 5, (Allocation("LEEDS", 2, 1),)), closed_attempt=1
        ),
        replace(new, remaining=RemainingUnits(2, 9, ()), closed_attempt=1),
    ]:
        async with engine.begin() as connection:
            was = await lock_order_fulfillments(connection, [plan()], set())
            await save_order_fulfillments(connection, was.before, {KEY.order_id: now}, ())
        async with engine.begin() as connection:
            workspace = await lock_order_fulfillments(connection, [plan()], set())
        assert workspace.before == {KEY.order_id: now}


@pytest.mark.parametrize(
    "twin",
    [
        replace(fulfillment_in(Status.PLANNING), id=uuid4()),
        replace(fulfillment_in(Status.PLANNING), order_number="OM-2"),
    ],
)
async def test_fulfillment_key_is_unique(engine: AsyncEngine, twin: Fulfillment) -> None:
    """The database refuses a second fulfilment of the same order, warehouse and attempt, and a
    second one of an id.
    """
    await saved(engine, fulfillment_in(Status.PLANNING))
    with pytest.raises(
        IntegrityError, match=r"fulfillments_(order_id_warehouse_id_attempt_key|pkey)"
    ):
        await saved(engine, twin)
    await saved(
        engine, replace(fulfillment_in(Status.PLANNING), id=uuid4(), key=replace(KEY, attempt=2))
    )


BROKEN: dict[str, tuple[str, Callable[[], object]]] = {
    "too many picked": (
        "picklist_lines_picked",
        lambda: update(lines).values(picked=lines.c.quantity + 1),
    ),
    "less than none picked": ("picklist_lines_picked", lambda: update(lines).values(picked=-1)),
    "less than nothing to pick": (
        "picklist_lines_picked",
        lambda: update(lines).values(quantity=-1, picked=0),
    ),
    "too much to pick": (
        "picklist_lines_quantity",
        lambda: update(lines).values(quantity=1_000_001),
    ),
    "less than none cut": ("picklist_lines_cut", lambda: update(lines).values(cut=-1)),
    "less than none short": ("picklist_lines_short", lambda: update(lines).values(short=-1)),
    "less than none spoiled": ("picklist_lines_spoiled", lambda: update(lines).values(spoiled=-1)),
    "less than none found damaged": (
        "picklist_lines_found_spoiled",
        lambda: update(lines).values(found_spoiled=-1),
    ),
    "remaining units of no version": (
        "orders_remaining",
        lambda: update(orders).values(remaining_attempt=1),
    ),
    "no unit remains": (
        "remaining_units_quantity",
        lambda: insert(remaining_units).values(
            order_id=KEY.order_id, warehouse_id="DOVER", line_number=1, quantity=0
        ),
    ),
    "picked before committed": (
        "stock_committed_before_picking",
        lambda: update(fulfillments).values(stock_committed=False),
    ),
    "shipped without shipment": (
        "shipment_id_once_shipped",
        lambda: update(fulfillments).values(status=Status.SHIPPED),
    ),
    "shipment before ready": (
        "no_shipment_before_ready",
        lambda: update(fulfillments).values(status=Status.PLANNING, shipment_id=SHIPMENT),
    ),
    "version zero": ("fulfillments_version", lambda: update(fulfillments).values(version=0)),
    "an empty item": ("packed_items_quantity", lambda: update(items).values(quantity=0)),
    "an item of no line": (
        "packed_items_fulfillment_id_line_number_fkey",
        lambda: update(items).where(items.c.line_number == 2).values(line_number=3),
    ),
    "a weightless package": (
        "packages_weight_grams",
        lambda: update(packages).values(weight_grams=0),
    ),
    "packed lines lost": ("packed_items_fulfillment_id_line_number_fkey", lambda: delete(lines)),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_database_enforces_the_invariants(engine: AsyncEngine, what: str) -> None:
    """The database enforces each rule too, independently of the service's code."""
    constraint, statement = BROKEN[what]
    ready = fulfillment_in(Status.PLANNING)
    await saved(engine, ready)
    await saved(engine, fulfillment_in(Status.READY), before=(ready,))
    with pytest.raises(IntegrityError, match=constraint):
        async with engine.begin() as connection:
            # any Executable
            await connection.execute(statement())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("constraint", "second"),
    [
        ("history_pkey", replace(CREATION, cause="event-2")),
        ("history_fulfillment_id_cause_new_key", replace(CREATION, version=2, old=Status.PENDING)),
        ("history_creation", replace(CREATION, version=2, cause="event-2")),
    ],
)
async def test_history_has_each_transition_once(
    engine: AsyncEngine, constraint: str, second: Transition
) -> None:
    """The history has one row for a version, one transition to a status for a cause, and one
    creation.
    """
    await saved(engine, fulfillment_in(Status.PLANNING), transitions=(CREATION,))
    with pytest.raises(IntegrityError, match=constraint):
        async with engine.begin() as connection:
            await connection.execute(insert(history), [store.TRANSITION.row(second)])


async def listed(
    engine: AsyncEngine,
    wanted: FulfillmentFilter,
    size: int = 100,
    after: Fulfillment | None = None,
) -> list[Fulfillment]:
    """Returns the fulfilments of a page. Checks the count of lines of each."""
    async with engine.connect() as connection:
        found = await store.list_fulfillments(
            connection,
            wanted,
            Page(
                size=size,
                after=(after.id,) if after else None,
                filter=0,
                encode=responses.fulfillment,
            ),
        )
        by_id = await store.find_fulfillments(
            connection, [fulfillment.place[0] for fulfillment in found]
        )
    whole = [by_id[fulfillment.place[0]] for fulfillment in found]
    assert [fulfillment.lines for fulfillment in found] == [
        len(each.lines) + sum(len(p.items) for p in each.packages) for each in whole
    ]
    return whole


async def test_lists_are_filtered_and_oldest_first(engine: AsyncEngine) -> None:
    """The filters by order, warehouse and statuses work alone and together; pages have the oldest
    first.
    """
    made = [
        replace(
            fulfillment_in(Status.PICKING if n % 2 else Status.PLANNING),
            id=uuid7(),
            key=replace(KEY, warehouse_id=f"W{n % 3}", order_id=UUID(int=n // 6), attempt=1 + n),
        )
        for n in range(12)
    ]
    await saved(engine, *reversed(made))
    picking, dover = frozenset({Status.PICKING}), "W1"

    assert await listed(engine, FulfillmentFilter()) == made
    assert await listed(engine, FulfillmentFilter(order_id=UUID(int=1))) == made[6:]
    assert await listed(engine, FulfillmentFilter(warehouse_id=dover)) == made[1::3]
    assert await listed(engine, FulfillmentFilter(statuses=picking)) == made[1::2]
    assert (
        await listed(
            engine,
            FulfillmentFilter(statuses=frozenset(Status), warehouse_id=dover, order_id=UUID(int=0)),
        )
        == made[1:6:3]
    )
    assert await listed(engine, FulfillmentFilter(), size=4) == made[:5]
    assert await listed(engine, FulfillmentFilter(), size=4, after=made[3]) == made[4:9]


async def test_list_counts_the_packed_items(engine: AsyncEngine) -> None:
    """The count of lines has the packed items too."""
    unpacked = replace(
        fulfillment_in(Status.PLANNING), id=uuid7(), key=replace(KEY, order_id=UUID(int=9))
    )
    packed = replace(
        fulfillment_in(Status.PACKED), id=unpacked.id, key=unpacked.key, packages=TWO_PACKAGES
    )
    await saved(engine, unpacked)
    await saved(engine, packed, before=(unpacked,))
    assert await listed(engine, FulfillmentFilter(order_id=UUID(int=9))) == [packed]


async def test_pending_commits_are_read_in_batches(engine: AsyncEngine) -> None:
    """The batch has only fulfilments in planning without committed stock, ordered by id, from a
    given id on.
    """
    made = [
        replace(
            fulfillment_in(Status.PLANNING),
            id=uuid7(),
            key=replace(KEY, order_id=uuid4()),
            stock_committed=n % 3 == 0,
        )
        for n in range(6)
    ]
    await saved(
        engine, *made, replace(fulfillment_in(Status.CANCELLED), id=uuid7(), stock_committed=False)
    )
    commit_pending = [each for each in made if not each.stock_committed]
    async with engine.connect() as connection:
        assert await store.find_commit_pending(connection, UUID(int=0), 3) == commit_pending[:3]
        assert (
            await store.find_commit_pending(connection, commit_pending[2].id, 3)
            == commit_pending[3:]
        )


async def test_a_set_is_read_by_the_same_few_statements(engine: AsyncEngine) -> None:
    """Keys of orders are found in every attempt and status; unknown orders have none."""
    await saved(
        engine,
        fulfillment_in(Status.CANCELLED),
        replace(fulfillment_in(Status.PLANNING), id=uuid4(), key=replace(KEY, attempt=2)),
    )
    async with engine.connect() as connection:
        assert await store.find_keys(connection, [KEY.order_id, uuid4()]) == {
            KEY,
            replace(KEY, attempt=2),
        }
        assert await store.find_keys(connection, []) == set()
