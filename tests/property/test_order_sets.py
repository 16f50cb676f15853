"""A set of commands of the order service equals the same commands one by one."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from order_svc import tables
from order_svc.decisions.deciders import decide
from order_svc.decisions.recalls import recall_id
from order_svc.lifecycle import (
    Disposition,
    FulfillmentState,
    ReturnStatus,
    ShipmentOutcome,
)
from order_svc.model.commands import (
    CommitPending,
    CommitRefused,
    Committed,
    CreateReturn,
    ExpireOrder,
    FailPayment,
    Findings,
    InspectReturn,
    MoveReturn,
    PlaceOrder,
    ReceiveReturn,
    RefundWithoutGoods,
    RetryOrder,
)
from order_svc.model.records import Order
from order_svc.store.workspace import lock_orders, save_orders
from order_svc.wire.events_out import outgoing_event
from tests.property.set_histories import Commands, History, histories, numbered, write_history
from tests.property.sets import BothWays, RecordKind, both_ways, examples
from tests.unit.order.samples import (
    NOW,
    cancel,
    cancel_items,
    checkout,
    commit,
    elsewhere,
    fulfillment_status,
    of_attempt,
    of_order,
    pay,
    place,
    refund,
    report,
    ship,
    shipment_outcome,
)

ORDERS = RecordKind(load=lock_orders, decide=decide, save=save_orders)
WAREHOUSES = ("london", "paris")


def placing(number: int, *warehouses: str) -> Envelope[PlaceOrder]:
    """Returns the checkout of an order: three lamps, and two bulbs from the last warehouse."""
    return replace(place(checkout(), *warehouses), target=UUID(int=number))


# The orders that commands name, one of them not placed at the beginning; and checkouts that come
# with several targets, which no other command names.
CHECKOUTS = [placing(n, *WAREHOUSES[: 1 + n % 2]) for n in range(1, 7)]
NAMED = [decide(None, each, NOW).record for each in CHECKOUTS]
RIVALS = [
    replace(each, key=f"rival:{n}", target=UUID(int=n))
    for first, each in ((70, placing(7, "london")), (80, placing(8, *WAREHOUSES)))
    for n in range(first, first + 3)
]


def beginning() -> list[Envelope[Any]]:
    """Returns commands after which one order is pending, one paid, one has failed, one is partly
    shipped, and one delivered with an approved return.
    """
    _, paid, failed, delivered, shipped, _ = NAMED
    id = id_of(delivered, "return 1")
    return [
        *CHECKOUTS[:5],
        *(pay(order) for order in (paid, delivered, shipped)),
        commit(failed),
        pay(failed, stock=CommitRefused("RESERVATION_EXPIRED")),
        *(ship(delivered, at, NOW, shipment_id=id_of(delivered, at)) for at in WAREHOUSES),
        *(report(delivered, at) for at in WAREHOUSES),
        fulfillment_status(shipped, "paris", FulfillmentState.PACKING, 3),
        ship(shipped, "paris", shipment_id=id_of(shipped, "paris")),
        of_order(CreateReturn, delivered, return_id=id, lines={1: 2, 2: 1}),
        of_order(
            MoveReturn, delivered, return_id=id, to=ReturnStatus.APPROVED, reason="RETURN_APPROVED"
        ),
    ]


def id_of(order: Order, part: str) -> UUID:
    """Returns the id of a part of the order: always the same."""
    return uuid5(order.id, part)


def of_any(build: Callable[..., Envelope[Any]], **fields: st.SearchStrategy[Any]) -> Any:
    """Returns the strategy of a command about any named order, in its first or second attempt."""
    orders = st.builds(
        lambda order, attempt: replace(order, attempt=attempt),
        st.sampled_from(NAMED),
        st.sampled_from([1, 1, 1, 2]),
    )
    return st.builds(build, orders, **fields)


def committing(order: Order, kind: str, at: str) -> Envelope[Any]:
    """Returns the warehouse's report about the commit of the order's stock."""
    fields: dict[str, dict[str, Any]] = {
        "same": {},
        "elsewhere": {"allocations": elsewhere(order, at)},
        "refused": {"allocations": {}, "refused": "RESERVATION_EXPIRED"},
        "freed": {"allocations": {}, "freed": True},
    }
    return commit(order, **fields[kind])


where = st.sampled_from(WAREHOUSES)
units = st.integers(0, 3)
lines = st.dictionaries(st.sampled_from([1, 2]), st.integers(1, 2), min_size=1)
versions = st.sampled_from([None, None, None, 1, 2, 3])
TOTAL = NAMED[0].placed_total
requests = [
    st.sampled_from([*CHECKOUTS, *RIVALS, *RIVALS]),
    of_any(
        lambda order, attempt, at: of_order(
            RetryOrder,
            order,
            attempt=attempt,
            allocations=elsewhere(order, at) if at else None,
        ),
        attempt=st.sampled_from([2, 2, 2, 3]),
        at=st.sampled_from(["", *WAREHOUSES * 2]),
    ),
    of_any(lambda order, version: cancel(order, expected_version=version), version=versions),
    of_any(
        lambda order, units, version: cancel_items(order, units, expected_version=version),
        units=lines,
        version=versions,
    ),
    of_any(lambda order: of_order(ExpireOrder, order)),
]
payments = [
    of_any(
        lambda order, captured, answer: pay(
            order,
            captured=order.money(captured),
            stock=answer or Committed({line.number: line.allocations for line in order.lines}),
        ),
        captured=st.sampled_from([TOTAL, TOTAL, TOTAL, 1]),
        answer=st.sampled_from([None, None, CommitPending(), CommitRefused("RESERVATION_EXPIRED")]),
    ),
    of_any(lambda order: of_attempt(FailPayment, order)),
    of_any(committing, kind=st.sampled_from(["same", "elsewhere", "refused", "freed"]), at=where),
    of_any(
        lambda order, refunded, number, code: refund(
            order,
            refunded,
            return_id=id_of(order, f"return {number}"),
            amount=100,
            failure_code=code,
        ),
        refunded=st.sampled_from([0, 100, TOTAL]),
        number=st.integers(1, 2),
        code=st.sampled_from([None, None, "declined", "nothing_refundable"]),
    ),
]
goods = [
    of_any(
        lambda order, at, state, version, lamps, bulbs, committed: fulfillment_status(
            order,
            at,
            state,
            version,
            fulfillment_id=id_of(order, f"fulfillment {at}"),
            units={1: lamps, 2: bulbs},
            committed=committed,
        ),
        at=where,
        state=st.sampled_from([None, *(s for s in FulfillmentState if s != "expected")]),
        version=st.integers(1, 9),
        lamps=units,
        bulbs=units,
        committed=st.booleans(),
    ),
    of_any(
        lambda order, at, time, version: ship(
            order, at, time, shipment_id=id_of(order, at), fulfillment_version=version
        ),
        at=where,
        time=st.sampled_from([None, NOW]),
        version=st.integers(0, 9),
    ),
    of_any(
        lambda order, at, outcome, withdrawn, version: shipment_outcome(
            order,
            at,
            None if withdrawn else outcome,
            shipment_id=id_of(order, at),
            withdrawn=withdrawn,
            withdraw_version=version,
        ),
        at=where,
        outcome=st.sampled_from([None, *ShipmentOutcome]),
        withdrawn=st.booleans(),
        version=st.integers(0, 9),
    ),
]


def of_return(build: Callable[..., Envelope[Any]], **fields: st.SearchStrategy[Any]) -> Any:
    """Returns the strategy of a request about one of four returns of a delivered order."""
    order = NAMED[3]
    ids = [id_of(order, "return 1"), id_of(order, "return 2")]
    ids += [recall_id(order, at, 0) for at in WAREHOUSES]
    version = st.sampled_from([None] * 8 + [1])
    return st.builds(
        lambda id, version, **given: build(order, return_id=id, expected_version=version, **given),
        st.sampled_from([*ids[:1] * 6, *ids]),
        version,
        **fields,
    )


returns = [
    of_return(
        lambda order, **f: of_order(CreateReturn, order, reason="WRONG_SIZE", **f), lines=lines
    ),
    of_return(
        lambda order, lines, kind, **f: of_order(
            RefundWithoutGoods, order, lines={n: (u, kind) for n, u in lines.items()}, **f
        ),
        lines=lines,
        kind=st.sampled_from(Disposition),
        warehouse_id=where,
    ),
    of_return(
        lambda order, **f: of_order(MoveReturn, order, reason="RETURN_MOVED", **f),
        to=st.sampled_from(
            [ReturnStatus.APPROVED] * 3
            + [ReturnStatus.REJECTED, ReturnStatus.IN_TRANSIT, ReturnStatus.CANCELLED]
        ),
    ),
    of_return(
        lambda order, **f: of_order(ReceiveReturn, order, **f), lines=lines, warehouse_id=where
    ),
    of_return(
        lambda order, found, **f: of_order(
            InspectReturn, order, lines={n: Findings(*counts) for n, counts in found.items()}, **f
        ),
        found=st.dictionaries(st.sampled_from([1, 2]), st.tuples(units, units), min_size=1),
    ),
]
commands = st.one_of(*requests, *payments, *goods, *goods, *returns)


def retrying(order: Order) -> list[Envelope[Any]]:
    """Returns the commit and the refusal of an order's stock, and its retry."""
    allocations = {line.number: line.allocations for line in order.lines}
    return [
        commit(order),
        pay(order, stock=CommitRefused("RESERVATION_EXPIRED")),
        of_order(RetryOrder, order, attempt=2, allocations=allocations),
    ]


def returning(passed: int) -> list[Envelope[Any]]:
    """Returns the arrival and the inspection of a return."""
    order = NAMED[3]
    id, found = id_of(order, "return 1"), {1: Findings(passed, 1)}
    return [
        of_order(ReceiveReturn, order, return_id=id, warehouse_id="london", lines={1: passed + 1}),
        of_order(InspectReturn, order, return_id=id, lines=found),
    ]


scenarios = st.one_of(
    st.sampled_from([RIVALS[:2], RIVALS[1:3], RIVALS[3:5], RIVALS[4:]]),
    st.builds(retrying, st.sampled_from([NAMED[0], NAMED[5]])),
    st.builds(returning, st.integers(0, 1)),
)


@pytest.fixture
async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
    async with both_ways(migrated_database, "order_svc", tables, outgoing_event) as both:
        yield both


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(st.just(beginning()), commands, scenarios))
async def test_set_of_order_commands_equals_them(both: BothWays, history: History) -> None:
    """Any commands, repeats and reused keys among them, have the same outcomes, rows and events as
    one set and one by one.
    """
    await write_history(both, Commands(kind=ORDERS, make=numbered, start=NOW), history)


async def test_checkout_with_three_targets_in_a_set_is_placed_once(both: BothWays) -> None:
    """A checkout has one order: the first target of the set is its id, and a later set finds it."""
    first, second, third = RIVALS[:3]
    outcomes = await both.write(ORDERS, [first, second], NOW)
    outcomes += await both.write(ORDERS, [replace(second, key="again"), third], NOW)
    assert [o.record.id for o in outcomes if isinstance(o, Done)] == [first.target] * 4


async def test_checkout_refused_in_a_set_is_placed_by_the_next(both: BothWays) -> None:
    """A refused checkout names no order: the next one with its key has its own id."""
    first, second, third = RIVALS[:3]
    without_stock = first.with_command(replace(first.command, allocations={}))
    outcomes = await both.write(ORDERS, [without_stock, second, third], NOW)
    assert [o.record.id for o in outcomes if isinstance(o, Done)] == [second.target] * 2


async def test_retry_in_a_set_keeps_the_earlier_attempts_parts(both: BothWays) -> None:
    """The fulfilments of an attempt that fails in the set are stored, as one by one."""
    await both.write(ORDERS, [CHECKOUTS[0], *retrying(NAMED[0])], NOW)
    async with both.together.engine.connect() as connection:
        found = await connection.execute(select(tables.warehouse_fulfillments.c.attempt))
        assert set(found.scalars()) == {1}


@pytest.mark.parametrize("first", ["place", "cancel"])
async def test_reference_in_a_set_goes_to_one_order(both: BothWays, first: str) -> None:
    """An external reference that an order is to have alone is released by a cancellation before
    the checkout, not by one after it. A unique index decides this; no decision sees two orders.
    """
    of = checkout(external_reference="R-1", unique_external_reference=True)
    holder, other = (replace(place(of), target=UUID(int=n)) for n in (1, 2))
    await both.write(ORDERS, [holder], NOW)
    some = [other, cancel(NAMED[0])]
    outcomes = await both.write(ORDERS, some if first == "place" else some[::-1], NOW, divided=True)
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == (1 if first == "place" else 2)
