"""The checks at the end of a run, beside the audit: the answers to clients, the processor's
records, legal histories.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.v1 import payment_pb2
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.values.errors import Failure
from omctl.audit.difference import Difference, minor
from omctl.audit.facts import Facts
from omctl.names import name_of
from order_svc.lifecycle import MOVES, Status
from payment_svc.providers.sandbox_ledger import operations
from tests.chaos.calls import Calls, GaveUp
from tests.chaos.events import Events
from tests.chaos.quiet import RESTING
from tests.chaos.shoppers import Story

MONEY_MOVED = frozenset({"charge", "capture", "refund"})
SUCCEEDED = payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED
MOVING = frozenset(
    {
        payment_pb2.PAYMENT_OPERATION_KIND_CHARGE,
        payment_pb2.PAYMENT_OPERATION_KIND_CAPTURE,
        payment_pb2.PAYMENT_OPERATION_KIND_REFUND,
    }
)


def client_answers(facts: Facts, stories: Sequence[Story]) -> Iterator[Difference]:
    """Each answer holds: orders placed, charged and cancelled, and returns made. No shopper has two
    orders.
    """
    placed = Counter(order.external_reference for order in facts.orders.values())
    captured = {
        order_id: any(minor(p.captured_amount) for p in payments)
        for order_id, payments in facts.payments_of.items()
    }
    returns = {each.return_id for each in facts.returns}
    for story in stories:
        shopper = f"{story.scenario.name} of order {story.order_id}"
        if placed[story.scenario.name] > 1:
            yield _broken("twice", shopper, f"has {placed[story.scenario.name]} orders")
        if not story.order_id:
            continue
        order = facts.orders.get(story.order_id)
        if order is None:
            yield _broken("placed", shopper, "the order was placed, and is not there")
            continue
        if story.captured and not captured.get(story.order_id):
            yield _broken("captured", shopper, "the payment was captured, and is not there")
        if story.cancelled and order.status != order_pb2.ORDER_STATUS_CANCELLED:
            yield _broken(
                "cancelled",
                shopper,
                f"was cancelled, and is {name_of(order_pb2.OrderStatus, order.status)}",
            )
        for item in order.items:
            if item.cancelled_quantity < story.cancelled_units.get(
                item.line_number, 0
            ) and order.status in RESTING - {
                order_pb2.ORDER_STATUS_CANCELLED,
                order_pb2.ORDER_STATUS_FAILED,
            }:
                yield _broken(
                    "cancelled units",
                    shopper,
                    f"line {item.line_number} has {item.cancelled_quantity} cancelled units",
                )
        for return_id in set(story.return_ids) - returns:
            yield _broken("return", shopper, f"return {return_id} was made, and is not there")


def resting(facts: Facts) -> Iterator[Difference]:
    """Each order has an end status, and no event is deferred."""
    for order in facts.orders.values():
        if order.status not in RESTING:
            text = (
                f"{name_of(order_pb2.OrderStatus, order.status)} ({order.status_reason}), and"
                " nothing goes on"
            )
            yield Difference(
                check="chaos.resting",
                subject=f"order {order.order_id}",
                text=text,
                repair=f"omctl order get {order.order_id}",
            )
    for failed in facts.failed.values():
        for event in failed:
            if event.state == ops_service_pb2.FAILED_EVENT_STATE_DEFERRED:
                subject = f"event {event.event_id} for {event.consumer}"
                text = f"deferred ({event.reason} {event.error})"
                repair = f"omctl events show {event.consumer} {event.event_id}"
                yield Difference(check="chaos.resting", subject=subject, text=text, repair=repair)


async def histories(facts: Facts, calls: Calls) -> list[Difference]:
    """Each order has made legal moves only, each with its version, without a gap."""
    turns = asyncio.Semaphore(16)

    async def of(order: order_pb2.Order) -> list[Difference]:
        request = order_service_pb2.ListOrderTransitionsRequest(
            order_id=order.order_id, page_size=1000
        )
        try:
            async with turns:
                transitions = (
                    await calls.ask(calls.orders.ListOrderTransitions, request)
                ).transitions
        except (Failure, GaveUp) as error:
            return [
                _broken(
                    "history",
                    f"order {order.order_id}",
                    f"its transitions cannot be read: {error!r}",
                )
            ]
        return list(_history(order, transitions))

    return [
        found for each in await asyncio.gather(*map(of, facts.orders.values())) for found in each
    ]


def _history(
    order: order_pb2.Order, transitions: Sequence[order_pb2.OrderTransition]
) -> Iterator[Difference]:
    subject = f"order {order.order_id}"
    if [transition.order_version for transition in transitions] != list(
        range(1, order.version + 1)
    ):
        yield _broken(
            "history",
            subject,
            f"versions {[row.order_version for row in transitions]} lead to {order.version}",
        )
    before = order_pb2.ORDER_STATUS_UNSPECIFIED
    for transition in transitions:
        if transition.old_status != before:
            yield _broken(
                "history",
                subject,
                f"version {transition.order_version} does not begin where the one before ended",
            )
        old, new = (
            name_of(order_pb2.OrderStatus, status)
            for status in (transition.old_status, transition.new_status)
        )
        if transition.old_status and old != new and Status(new) not in MOVES[Status(old)]:
            yield _broken("history", subject, f"went from {old} to {new} ({transition.reason})")
        before = transition.new_status


async def published(facts: Facts, events: Events) -> list[Difference]:
    """In the end the stream has each version of each order, after any loss."""
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (OrderStatusChanged, OrderItemsCancelled)}
    stored_versions: dict[str, set[int]] = {}
    async for message in events.messages("ORDERS"):
        if kind := kinds.get((message.headers or {}).get("ce-type", "")):
            event = kind.FromString(message.data)
            stored_versions.setdefault(event.order_id, set()).add(event.order_version)
    return [
        _broken(
            "published",
            f"order {order.order_id}",
            f"versions {sorted(missing)} of {order.version} are not on the stream",
        )
        for order in facts.orders.values()
        if (
            missing := set(range(1, order.version + 1)) - stored_versions.get(order.order_id, set())
        )
    ]


async def processor(facts: Facts, database_url: str) -> list[Difference]:
    """The processor has moved exactly the money of the payments, under the same references."""
    engine = create_async_engine(database_url)
    columns = (operations.c.key, operations.c.kind, operations.c.amount)
    try:
        async with engine.connect() as connection:
            rows = (
                await connection.execute(select(*columns).where(operations.c.state == "succeeded"))
            ).all()
    finally:
        await engine.dispose()
    processor_amounts = {
        f"sbx_{row.key.hex}": row.amount for row in rows if row.kind in MONEY_MOVED
    }
    payment_amounts: dict[str, int] = {}
    for payment in facts.payments:
        for operation in payment.operations:
            if (
                operation.outcome == SUCCEEDED
                and operation.kind in MOVING
                and operation.processor_reference
            ):
                payment_amounts[operation.processor_reference] = minor(operation.amount)
    return [
        Difference(
            check="chaos.processor",
            subject=f"reference {key}",
            text=f"the processor has {processor_amounts.get(key)},"
            f" payments {payment_amounts.get(key)}",
            repair="",
        )
        for key in sorted(processor_amounts.keys() | payment_amounts.keys())
        if processor_amounts.get(key) != payment_amounts.get(key)
    ]


def faults(calls: Calls, unclean: Sequence[str]) -> Iterator[Difference]:
    """No client got an impossible answer, and each service drained when it was ended."""
    for text in sorted(calls.faults):
        yield Difference(check="chaos.answer", subject="clients", text=text, repair="")
    for text in unclean:
        yield Difference(check="chaos.ending", subject="processes", text=text, repair="")


def _broken(what: str, subject: str, text: str) -> Difference:
    return Difference(check=f"chaos.{what}", subject=subject, text=text, repair="")
