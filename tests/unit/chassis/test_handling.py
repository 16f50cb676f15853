"""An outcome for each event, whatever they ask for."""

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
    """Events that ask for nothing are done; the outcome of each other one stands at its place,
    and the operation sees them alone.
    """
    asked: list[list[str]] = []

    async def operation(commands: Sequence[str]) -> Sequence[Outcome[str]]:
        asked.append(list(commands))
        return [Done("first"), Refused("SECOND")]

    nothing, first, nothing_again, second = await run_handler([None, "a", None, "b"], operation)
    assert asked == [["a", "b"]]
    assert nothing == nothing_again == Done(None)
    assert first == Done("first")
    assert isinstance(second, Refused)
    assert await run_handler([None, None], operation) == [Done(None), Done(None)]
    assert len(asked) == 1


@pytest.mark.parametrize("raises", [True, False])
async def test_broken_rule_of_an_event_is_unreadable(raises: bool) -> None:
    """What a handler finds wrong with a field, raised or answered, makes the event unreadable,
    by the same field; any other refusal stays what it is, a peer's VALIDATION_FAILED too. Each
    concerns its own event alone.
    """
    wrong = invalid_field("fulfillment.packages", "must not be empty")
    fates: dict[str, Failure] = {
        "wrong": wrong,
        "peer": Invalid("VALIDATION_FAILED", "order_attempts: must have at most 500 items."),
        "refused": Refused("ORDER_CLOSED"),
        "exists": Invalid("SKU_NOT_ON_PICKLIST"),
    }

    async def handler(deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        found = [fates.get(d.message.order_id) for d in deliveries]
        if raises and (failure := next(filter(None, found), None)):
            raise failure
        return [failure or Done("done") for failure in found]

    kind = SampleStatusChanged
    handlers = Dispatcher({kind: handler})
    group = []
    for name in ["fine", *fates]:
        headers = {"ce-id": str(uuid4()), "ce-type": kind.DESCRIPTOR.full_name}
        body = kind(order_id=name).SerializeToString()
        raw = Msg(Client(), subject_of(kind), REPLY, body, headers)
        received = Received(received_event(raw, "sample-orders"))
        received.parse(handlers.kinds)
        group.append(received)
    outcomes = await handlers.ask(group)
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
