"""Returns of one order, in any sequence: each unit is accepted once, and the refunds never exceed
the line's cost.
"""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from order_svc.decisions import recalls
from order_svc.decisions.deciders import decide
from order_svc.decisions.returns import returnable_units
from order_svc.lifecycle import (
    RETURN_MOVES,
    Disposition,
    FulfillmentState,
    ReturnKind,
    ReturnStatus,
    Status,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.commands import CreateReturn, RefundWithoutGoods
from order_svc.model.events import ItemsCancelled, StatusChanged
from order_svc.model.records import Allocation, Order, WarehouseFulfillment
from order_svc.model.returns import Return
from tests.unit.order.returns import ask, ask_money, context, inspect, move, receive, settle, walked
from tests.unit.order.samples import (
    NOW,
    cancel_items,
    changed,
    checkout,
    fulfillment_status,
    pay,
    place,
    placed,
    report,
    ship,
)

QUANTITY = st.integers(1, 5)
LINES = st.dictionaries(st.integers(1, 3), QUANTITY, min_size=1, max_size=3)
# The next steps of a return's status; frequent ones are listed more than once.
NEXT = {
    ReturnStatus.REQUESTED: ["approved"] * 6 + ["rejected"],
    ReturnStatus.APPROVED: ["received"] * 4 + ["in_transit"],
    ReturnStatus.IN_TRANSIT: ["received"] * 4,
    ReturnStatus.RECEIVED: ["inspected"] * 4 + ["received"],
}
WANTED = st.builds(
    CheckoutLine,
    sku=st.just("SKU"),
    quantity=QUANTITY,
    unit_price=st.integers(0, 1000),
    discount=st.just(0),
    tax=st.integers(0, 1000),
)


def delivered(lines: list[CheckoutLine], discount: int, cancelled: list[int]) -> Order:
    """An order of these lines that has come to its customer, but for some units."""
    of = checkout(
        *lines, discount=min(discount, sum(line.unit_price * line.quantity for line in lines))
    )
    order = placed(of, "london")
    for command in (pay(order), ship(order, "london", NOW), report(order, "london")):
        order = decide(order, command, NOW).record
    assert order.status is Status.DELIVERED
    kept = [
        replace(line, cancelled=min(n, line.quantity))
        for line, n in zip(order.lines, cancelled, strict=False)
    ]
    return replace(order, lines=tuple(kept))


@st.composite
def commands(draw: st.DrawFn, order: Order) -> Envelope[Any]:
    """Returns a request about the order's returns: usually a next step of their status."""
    if not order.returns or draw(st.integers(0, 3)) == 0:
        if draw(st.booleans()):
            return ask(order, draw(LINES))
        return ask_money(
            order,
            {n: (units, draw(st.sampled_from(Disposition))) for n, units in draw(LINES).items()},
        )
    order_return = draw(st.sampled_from(order.returns))
    verb = draw(
        st.sampled_from([*NEXT.get(order_return.status, ()), "cancelled", "received", "inspected"])
    )
    if verb == "received":
        return receive(order_return, draw(LINES))
    if verb == "inspected":
        # and now and then one more than that
        here = {line.number: line.received - line.inspected for line in order_return.lines}
        found = {
            n: (draw(st.integers(0, units)), draw(st.integers(0, 1))) for n, units in here.items()
        }
        return inspect(
            order_return,
            {n: (*both, draw(st.integers(0, sum(both)))) for n, both in found.items() if sum(both)},
        )
    return move(order_return, ReturnStatus(verb))


def holds(order: Order) -> None:
    """Checks the invariants of an order's returns."""
    given_back = [
        order_return for order_return in order.returns if order_return.kind is not ReturnKind.RECALL
    ]
    for line in order.lines:
        lines = [order_return.line(line.number) for order_return in given_back]
        assert sum(return_line.inspected for return_line in lines) <= line.quantity - line.cancelled
        assert (
            sum(order_return.held(line.number) for order_return in given_back)
            <= line.quantity - line.cancelled
        )
        assert sum(return_line.refund for return_line in lines) <= line.total - line.cost_of(
            line.cancelled
        )
        assert sum(return_line.refund for return_line in lines) == line.cost_of(
            line.cancelled + sum(return_line.refundable for return_line in lines)
        ) - line.cost_of(line.cancelled)
        assert all(
            return_line.inspected <= return_line.received
            and return_line.unrefunded <= return_line.passed + return_line.failed
            for return_line in lines
        )
    assert sum(order.returned(line.number) for line in order.lines) <= sum(
        line.quantity for line in order.lines
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_units_are_accepted_once_and_refunded_up_to_the_price(data: st.DataObject) -> None:
    """Several returns at once, asked for, received, inspected, called off, refunded: all that must
    hold does, after each step.

    A step that is made is along the table, with one event. A return that is asked for again
    is not made again, and a refund that comes again changes nothing.
    """
    lines = data.draw(st.lists(WANTED, min_size=1, max_size=3))
    order = delivered(
        lines,
        data.draw(st.integers(0, 2000)),
        data.draw(st.lists(st.integers(0, 2), min_size=3, max_size=3)),
    )
    for _ in range(data.draw(st.integers(1, 25))):
        command = data.draw(commands(order))
        try:
            decision = decide(order, command, NOW)
        except Refused:
            continue
        for step in walked(decision):
            assert step.old is None or step.new in RETURN_MOVES[step.old]
        assert len(decision.events) == len(decision.history)
        order = decision.record
        holds(order)
        if isinstance(command.command, CreateReturn | RefundWithoutGoods):
            assert decide(order, command, NOW).record is order
        for order_return in order.returns:
            if order_return.status is ReturnStatus.INSPECTED and data.draw(st.booleans()):
                order = settle(order, order_return, amount=order_return.refund).record
                assert settle(order, order_return, amount=order_return.refund).record is order
        holds(order)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_line_never_gives_back_more_than_it_cost(data: st.DataObject) -> None:
    """Returns, and a warehouse that reports fewer and fewer units though the order was
    delivered, in any sequence: the order's cost never rises, and never falls below what its
    returns refund. So as returned and as cancelled its units are refunded with their price at
    most.
    """
    order = delivered(
        data.draw(st.lists(WANTED, min_size=1, max_size=3)),
        data.draw(st.integers(0, 2000)),
        [0, 0, 0],
    )
    units = {line.number: line.quantity for line in order.lines}
    for version in range(1, data.draw(st.integers(1, 20))):
        if data.draw(st.booleans()):
            units = {number: data.draw(st.integers(0, most)) for number, most in units.items()}
            command: Envelope[Any] = fulfillment_status(
                order,
                "london",
                FulfillmentState.COMPLETED,
                9 + version,
                units=units,
                committed=True,
            )
        else:
            command = data.draw(commands(order))
        before = order
        try:
            order = decide(order, command, NOW).record
        except Refused:
            continue
        assert (
            sum(order_return.refund for order_return in order.returns)
            <= order.total - order.shipping
        )
        assert order.total <= before.total


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(1, 2), st.integers(0, 3), min_size=1), min_size=1, max_size=6
    )
)
def test_recalls_announce_each_unit_once(
    recalled_units: list[dict[int, int]],
) -> None:
    """However often, and in any order, a warehouse's units are recalled: together they announce the
    most that was reported, once.
    """
    order = replace(
        delivered(
            [
                CheckoutLine(sku="A", quantity=3, unit_price=10, discount=0, tax=0),
                CheckoutLine(sku="B", quantity=3, unit_price=10, discount=0, tax=0),
            ],
            0,
            [0, 0],
        ),
        status=Status.CANCELLED,
    )
    for units in recalled_units:
        order = recalls.recall(order, "london", units, context(order)).record
    most = {n: max(units.get(n, 0) for units in recalled_units) for n in (1, 2)}
    assert {
        n: sum(order_return.line(n).announced for order_return in order.returns) for n in (1, 2)
    } == most
    assert len({order_return.id for order_return in order.returns}) == len(order.returns)
    other = recalls.recall(order, "paris", {1: 1}, context(order)).record
    assert other.returns[-1].id not in {order_return.id for order_return in order.returns}


def units_at(order: Order, fulfillment: WarehouseFulfillment) -> int:
    """Units of the order's only line that the warehouse serves."""
    allocations = order.lines[0].allocations
    return sum(a.quantity for a in allocations if a.warehouse_id == fulfillment.warehouse_id)


def deliver(order: Order, fulfillment: WarehouseFulfillment) -> list[Envelope[Any]]:
    """The parcel of that part leaves with all units that the order has there, and arrives."""
    reported = changed(report(order, fulfillment.warehouse_id), version=fulfillment.version + 1)
    return [reported, ship(order, fulfillment.warehouse_id, NOW)]


@st.composite
def split_orders(draw: st.DrawFn) -> Order:
    """A paid order of one line, whose units leave from two or three warehouses. One parcel is
    delivered.
    """
    quantities = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    price, discount = draw(st.integers(100, 200)), draw(st.integers(0, 50))
    line = CheckoutLine(
        sku="SKU", quantity=sum(quantities), unit_price=price, discount=discount, tax=0
    )
    warehouses = zip(("london", "oslo", "paris"), quantities, strict=False)
    allocations = tuple(
        Allocation(warehouse_id=name, reservation_id=uuid4(), quantity=units)
        for name, units in warehouses
    )
    command = changed(place(checkout(line)), allocations={1: allocations})
    order = decide(None, command, NOW).record
    order = decide(order, pay(order), NOW).record
    for delivery in deliver(order, order.fulfillments[0]):
        order = decide(order, delivery, NOW).record
    return order


@st.composite
def parcel_commands(draw: st.DrawFn, order: Order) -> list[Envelope[Any]]:
    """A legal command, or two for a delivery: units are cancelled, are not found by the picker, are
    delivered, are refunded or are returned.
    """
    packing = [
        p
        for p in order.fulfillments
        if p.order_status is not Status.DELIVERED and units_at(order, p)
    ]
    open_returns = [order_return for order_return in order.returns if order_return.active]
    returnable = returnable_units(order, 1)
    kinds = ["cancel", "short", "deliver"] * bool(packing) + ["refund", "ask"] * bool(returnable)
    kind = draw(st.sampled_from(kinds + ["next"] * 2 * len(open_returns) or ["none"]))
    if kind == "none":
        return []
    if kind == "refund":
        units = draw(st.integers(1, returnable))
        return [ask_money(order, {1: (units, draw(st.sampled_from(Disposition)))})]
    if kind == "ask":
        return [ask(order, {1: draw(st.integers(1, returnable))})]
    if kind == "next":
        return [draw(next_step(draw(st.sampled_from(open_returns))))]
    if kind == "cancel":
        most = sum(units_at(order, p) for p in packing)
        return [cancel_items(order, {1: draw(st.integers(1, most))})]
    fulfillment = draw(st.sampled_from(packing))
    if kind == "deliver":
        return deliver(order, fulfillment)
    found = {1: draw(st.integers(0, units_at(order, fulfillment)))}
    version = fulfillment.version + 1
    return [
        fulfillment_status(
            order,
            fulfillment.warehouse_id,
            FulfillmentState.PICKING,
            version,
            units=found,
            committed=True,
        )
    ]


@st.composite
def next_step(draw: st.DrawFn, order_return: Return) -> Envelope[Any]:
    """Returns the next step of the return: all announced units arrive, and are inspected in
    parts.
    """
    line = order_return.line(1)
    if order_return.status is ReturnStatus.REQUESTED:
        return move(order_return, ReturnStatus.APPROVED)
    if order_return.status is ReturnStatus.APPROVED:
        return receive(order_return, {1: line.announced})
    passed = draw(st.integers(1, line.received - line.inspected))
    return inspect(order_return, {1: (passed, 0, draw(st.sampled_from([0, 0, 0, passed])))})


def published_amounts(order: Order, command: Envelope[Any]) -> Order:
    """The order after the command. Fails where the order's cancelled amount changes and no event
    carries the new one.
    """
    decision = decide(order, command, NOW)
    own = [event for event in decision.events if isinstance(event, StatusChanged | ItemsCancelled)]
    published = own[-1].order.cancelled_amount if own else order.cancelled_amount
    assert decision.record.cancelled_amount == published
    return decision.record


def refunded_and_cancelled(order: Order) -> tuple[int, int]:
    """The units of the line that are cancelled or refunded, and the money that is due for them."""
    [line] = order.lines
    units = line.cancelled + sum(order_return.line(1).refundable for order_return in order.returns)
    return units, order.cancelled_amount + order.refunded_of(1)


@settings(max_examples=200, deadline=None)
@given(split_orders(), st.data())
def test_cancelled_and_returned_units_add_up_to_the_line(order: Order, data: st.DataObject) -> None:
    """Units of several parcels are cancelled and returned in any order: what goes back for them is
    what as many first units of the line cost, and with the last unit it is the line's total. No
    return changes what was published as cancelled.
    """
    [line] = order.lines
    for _ in range(data.draw(st.integers(1, 25))):
        for command in data.draw(parcel_commands(order)):
            order = published_amounts(order, command)
            units, amount = refunded_and_cancelled(order)
            assert amount == line.cost_of(units)
    for fulfillment in order.fulfillments:
        if fulfillment.order_status is not Status.DELIVERED:
            for command in deliver(order, fulfillment):
                order = published_amounts(order, command)
    while open_returns := [order_return for order_return in order.returns if order_return.active]:
        order = published_amounts(order, data.draw(next_step(open_returns[0])))
    if rest := returnable_units(order, 1):
        order = published_amounts(order, ask_money(order, {1: (rest, Disposition.NONE)}))
    units, amount = refunded_and_cancelled(order)
    assert units == line.quantity - sum(
        order_return.line(1).unrefunded for order_return in order.returns
    )
    assert amount == line.cost_of(units)
    assert line.cost_of(line.quantity) == line.total
