"""The outcome of each event of a set, in the order of the events."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.consume.delivery import Delivery, Received, received_event
from chassis.consume.dispatch import Dispatcher, run_handler
from chassis.values.convert import invalid_field
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Failure, Invalid, Refused, Violation
from chassis.values.event_subjects import subject_of
from tests.sample.events import SampleStatusChanged

REPLY = "$JS.ACK.ORDERS.sample-orders.1.7.7.1795348800000000000.0"


async def test_each_event_gets_its_own_outcome() -> None:
    """An event without a command is done. Each other event has its outcome at its place, and the
    operation gets only the commands of those.
    """
    operation_calls: list[list[str]] = []

    async def operation(commands: Sequence[str]) -> Sequence[Outcome[str]]:
        operation_calls.append(list(commands))
        return [Done(record="first"), Refused("SECOND")]

    nothing, first, nothing_again, second = await run_handler([None, "a", None, "b"], operation)
    assert operation_calls == [["a", "b"]]
    assert nothing == nothing_again == Done(record=None)
    assert first == Done(record="first")
    assert isinstance(second, Refused)
    assert await run_handler([None, None], operation) == [Done(record=None), Done(record=None)]
    assert len(operation_calls) == 1


@pytest.mark.parametrize("raises", [True, False])
async def test_broken_rule_of_an_event_is_unreadable(raises: bool) -> None:
    """A field that a handler finds invalid, raised or returned, makes the event unreadable by that
    field. Any other refusal is kept, a peer's VALIDATION_FAILED too. Each concerns its own event
    alone.
    """
    wrong = invalid_field("fulfillment.packages", "must not be empty")
    results: dict[str, Failure] = {
        "wrong": wrong,
        "peer": Invalid("VALIDATION_FAILED", "order_attempts: must have at most 500 items."),
        "refused": Refused("ORDER_CLOSED"),
        "exists": Invalid("SKU_NOT_ON_PICKLIST"),
    }

    async def handler(deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        found = [results.get(d.message.order_id) for d in deliveries]
        if raises and (failure := next(filter(None, found), None)):
            raise failure
        return [failure or Done(record="done") for failure in found]

    kind = SampleStatusChanged
    handlers = Dispatcher({kind: handler})
    group = []
    for name in ["fine", *results]:
        headers = {"ce-id": str(uuid4()), "ce-type": kind.DESCRIPTOR.full_name}
        body = kind(order_id=name).SerializeToString()
        raw = Msg(Client(), subject_of(kind), REPLY, body, headers)
        received = Received(event=received_event(raw, "sample-orders"))
        received.parse(handlers.kinds)
        group.append(received)
    outcomes = await handlers.dispatch(group)
    assert [outcome.reason if isinstance(outcome, Failure) else "done" for outcome in outcomes] == [
        "done",
        "EVENT_UNREADABLE",
        "VALIDATION_FAILED",
        "ORDER_CLOSED",
        "SKU_NOT_ON_PICKLIST",
    ]
    unread = outcomes[1]
    assert isinstance(unread, Invalid)
    assert unread.violations == (Violation("fulfillment.packages", "must not be empty"),)
