"""Changes that a person makes: actor and note in the history, actor and reason in the event."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.actor import METADATA_KEY
from chassis.values.errors import NotFound
from order_svc import tables
from order_svc.app import Operations
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.requests import Orders, Returns, create_order
from tests.integration.order.returns import (
    about,
    approved,
    delivered,
    inspection,
    made,
    money,
    receipt,
    wanted,
)
from tests.integration.order.test_cancellation import cancel, cancel_items, failed, retry
from tests.integration.order.test_events import place

ACTOR, NOTE = "staff:7f3a", "The customer called: müßig."
KINDS: dict[str, Any] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (OrderStatusChanged, OrderItemsCancelled, ReturnStatusChanged)
}


class World:
    """Orders and returns, each in the state that a method changes."""

    def __init__(
        self,
        orders: Orders,
        returns: Returns,
        operations: Operations,
        warehouse: FakeWarehouse,
        engine: AsyncEngine,
    ) -> None:
        self.orders, self.returns, self.operations = orders, returns, operations
        self.warehouse, self.engine = warehouse, engine

    async def call(self, request: Message, actor: str | None) -> Any:
        """Returns the answer of this request's method."""
        name = request.DESCRIPTOR.name.removesuffix("Request")
        service: Any = self.orders if hasattr(self.orders, name) else self.returns
        metadata = ((METADATA_KEY, actor),) if actor else ()
        return await getattr(service, name)(request, timeout=30, metadata=metadata)

    async def history(self, answer: Any) -> list[Any]:
        """Returns the listed history of the order, or of the return, that was answered."""
        if answer.DESCRIPTOR.fields[0].name == "order":
            of_order = order_service_pb2.ListOrderTransitionsRequest(order_id=answer.order.order_id)
            return list((await ask(self.orders.ListOrderTransitions, of_order)).transitions)
        of_return = api.ListReturnTransitionsRequest(return_id=answer.order_return.return_id)
        return list((await ask(self.returns.ListReturnTransitions, of_return)).transitions)

    async def events(self) -> list[Any]:
        """Returns all events, in their order."""
        statement = select(tables.outbox.c.type, tables.outbox.c.payload).order_by(
            tables.outbox.c.id
        )
        async with self.engine.connect() as connection:
            return [
                KINDS[kind].FromString(payload)
                for kind, payload in await connection.execute(statement)
            ]


@pytest.fixture
def world(
    orders: Orders,
    returns: Returns,
    operations: Operations,
    warehouse: FakeWarehouse,
    engine: AsyncEngine,
) -> World:
    return World(
        orders=orders, returns=returns, operations=operations, warehouse=warehouse, engine=engine
    )


async def cancel_order(world: World) -> Message:
    return cancel(await place(world.orders, world.operations, "london"))


async def cancel_order_items(world: World) -> Message:
    return cancel_items(await place(world.orders, world.operations, "london", "york"), {1: 1})


async def retry_order(world: World) -> Message:
    return retry(await failed(world.orders, world.operations, world.warehouse))


async def create_return(world: World) -> Message:
    return wanted(await delivered(world.orders, world.operations), {1: 1})


async def refund_without_goods(world: World) -> Message:
    return money(await delivered(world.orders, world.operations), {1: (1, "NONE")})


async def approve_return(world: World) -> Message:
    return api.ApproveReturnRequest(
        **about(await made(world.returns, await delivered(world.orders, world.operations), {1: 1}))
    )


async def reject_return(world: World) -> Message:
    return api.RejectReturnRequest(
        **about(await made(world.returns, await delivered(world.orders, world.operations), {1: 1}))
    )


async def mark_return_in_transit(world: World) -> Message:
    order_return = await approved(
        world.returns, await delivered(world.orders, world.operations), {1: 1}
    )
    return api.MarkReturnInTransitRequest(**about(order_return))


async def receive_return(world: World) -> Message:
    return receipt(
        await approved(world.returns, await delivered(world.orders, world.operations), {1: 1}),
        {1: 1},
    )


async def inspect_return(world: World) -> Message:
    order_return = await approved(
        world.returns, await delivered(world.orders, world.operations), {1: 1}
    )
    await ask(world.returns.ReceiveReturn, receipt(order_return, {1: 1}))
    return inspection(order_return, {1: (0, 1, 1)})


async def cancel_return(world: World) -> Message:
    return api.CancelReturnRequest(
        **about(await made(world.returns, await delivered(world.orders, world.operations), {1: 1}))
    )


async def place_order(world: World) -> Message:
    return create_order()


# For each method: a function that prepares its request, and the reason in the history.
MUTATIONS: dict[Callable[[World], Awaitable[Message]], list[str]] = {
    place_order: ["ORDER_PLACED"],
    cancel_order: ["CUSTOMER_REQUEST"],
    cancel_order_items: ["CUSTOMER_REQUEST"],
    retry_order: ["ORDER_RETRIED"],
    create_return: ["RETURN_REQUESTED"],
    refund_without_goods: ["REFUND_WITHOUT_GOODS"],
    approve_return: ["RETURN_APPROVED"],
    reject_return: ["RETURN_REJECTED"],
    mark_return_in_transit: ["RETURN_IN_TRANSIT"],
    receive_return: ["RETURN_RECEIVED"],
    inspect_return: ["RETURN_INSPECTED", "NOTHING_REFUNDABLE"],
    cancel_return: ["RETURN_CANCELLED"],
}
Prepare = Callable[[World], Awaitable[Message]]


def optional(row: Any, name: str) -> Any:
    return getattr(row, name) if row.HasField(name) else None


@pytest.mark.parametrize(
    ("prepare", "reasons"), MUTATIONS.items(), ids=lambda value: getattr(value, "__name__", "")
)
async def test_mutation_records_its_actor_and_note(
    world: World, prepare: Prepare, reasons: list[str]
) -> None:
    """The rows of a call have its actor, its note and its request_id; its events have the same but
    the note. Rows of other calls and of events have neither actor nor note.

    A repeat of the call by another actor changes nothing.
    """
    request: Any = await prepare(world)
    before = len(await world.events())
    request.note = NOTE
    answer = await world.call(request, ACTOR)
    history, events = await world.history(answer), (await world.events())[before:]
    rows = [row for row in history if row.cause_id == request.request_id]
    transitions = [
        (row.reason, row.actor, optional(row, "claimed_actor"), optional(row, "note"))
        for row in rows
    ]
    assert transitions == [(reason, "order", ACTOR, NOTE) for reason in reasons]
    published = [
        (event.reason, event.actor, optional(event, "claimed_actor"), event.cause_id)
        for event in events
    ]
    assert published == [(reason, "order", ACTOR, request.request_id) for reason in reasons]
    assert not [
        event for event in await world.events() if NOTE.encode() in event.SerializeToString()
    ]
    others = [row for row in history if row not in rows]
    assert {(optional(row, "claimed_actor"), optional(row, "note")) for row in others} <= {
        (None, None)
    }

    assert await world.call(request, "customer:another") == answer
    assert await world.history(answer) == history
    assert (await world.events())[before:] == events


@pytest.mark.parametrize(
    ("prepare", "reasons"), MUTATIONS.items(), ids=lambda value: getattr(value, "__name__", "")
)
async def test_mutation_without_actor_and_note_has_neither(
    world: World, prepare: Prepare, reasons: list[str]
) -> None:
    """Both are optional: the call's rows and events have no claimed actor, and the rows no note."""
    request: Any = await prepare(world)
    before = len(await world.events())
    answer = await world.call(request, None)
    rows = [row for row in await world.history(answer) if row.cause_id == request.request_id]
    assert [
        (row.reason, optional(row, "claimed_actor"), optional(row, "note")) for row in rows
    ] == [(r, None, None) for r in reasons]
    assert [optional(event, "claimed_actor") for event in (await world.events())[before:]] == [
        None
    ] * len(reasons)


async def test_return_transitions_are_listed_oldest_first(world: World) -> None:
    """The pages have each row once; each row has both statuses, and its version."""
    order_return = await approved(
        world.returns, await delivered(world.orders, world.operations), {1: 1}
    )
    await ask(
        world.returns.MarkReturnInTransit, api.MarkReturnInTransitRequest(**about(order_return))
    )
    request = api.ListReturnTransitionsRequest(return_id=order_return.return_id, page_size=2)
    first = await ask(world.returns.ListReturnTransitions, request)
    request.page_token = first.next_page_token
    second = await ask(world.returns.ListReturnTransitions, request)
    assert [len(first.transitions), len(second.transitions), second.next_page_token] == [2, 1, ""]
    rows = [*first.transitions, *second.transitions]
    assert [
        (row.return_id, row.return_version, row.old_status, row.new_status) for row in rows
    ] == [
        (order_return.return_id, 1, 0, 1),
        (order_return.return_id, 2, 1, 2),
        (order_return.return_id, 3, 2, 4),
    ]
    assert rows[0].occur_time == order_return.create_time


async def test_transitions_of_an_unknown_return_are_not_found(world: World) -> None:
    """The answer is RETURN_NOT_FOUND instead of an empty list."""
    with pytest.raises(NotFound) as refused:
        await ask(
            world.returns.ListReturnTransitions,
            api.ListReturnTransitionsRequest(return_id=str(uuid4())),
        )
    assert refused.value.reason == "RETURN_NOT_FOUND"
