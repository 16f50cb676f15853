"""Calls of a client under faults: the same request, with the same request_id, until it is answered.

The client records each answer that breaks a guarantee: that is a fault of the services, under any
injected fault.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final

from google.protobuf.message import Message
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceStub
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub

from chassis.rpc.client import Channel, ask, connect
from chassis.values.errors import Defect, Deferred, Failure
from omctl.names import method_name

TIMEOUT_S: Final = 6.0
AGAIN_MIN_S: Final = 0.3
AGAIN_MAX_S: Final = 4.0
ANSWER_TIMEOUT_S: Final = 60.0
DEFECTS_MAX: Final = 5  # how often a call is repeated after INTERNAL
MOMENTARY: Final = frozenset({"CONTENTION"})


class GaveUp(Exception):
    """The run is over without an answer."""


class Calls:
    """The services' methods, and the count of all answers beside successes: `troubles["CreateOrder
    OVERLOADED"]`.
    """

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self.orders, self.returns = (
            OrderServiceStub(channels["order"]),
            ReturnServiceStub(channels["order"]),
        )
        self.inventory = InventoryServiceStub(channels["warehouse"])
        self.warehouse_events = FailedEventServiceStub(channels["warehouse"])
        self.fulfillments = FulfillmentServiceStub(channels["fulfillment"])
        self.shipping = ShippingServiceStub(channels["shipping"])
        self.payments = PaymentServiceStub(channels["payment"])
        self.troubles: Counter[str] = Counter()
        self.faults: set[str] = set()  # answers that no client may get
        self.answered = 0
        self.calm_since = float("inf")  # monotonic: the end of the last fault

    async def ask(
        self,
        method: Any,
        request: Message,
        *,
        again: bool = False,
        answer_timeout_s: float = float("inf"),
    ) -> Any:
        """Returns the method's answer; with `again` it is requested once more, and must concern the
        same resource.

        Raises the Failure of a refusal. Raises GaveUp if there is no answer within
        `answer_timeout_s`, or (which is a fault) long after the last fault; the effect of the call
        is then unknown.
        """
        answer = await self._until_answered(method, request, answer_timeout_s)
        if again:
            await self._repeat(method, request, answer)
        return answer

    async def _until_answered(
        self, method: Any, request: Message, answer_timeout_s: float = float("inf")
    ) -> Any:
        name, defects, began = method_name(request), 0, time.monotonic()
        for attempt in count():
            try:
                answer = await ask(method, request, timeout_s=TIMEOUT_S)
            except Failure as failure:
                self.troubles[f"{name} {why(failure)}"] += 1
                defects += isinstance(failure, Defect)
                self._note(name, failure)
                momentary = isinstance(failure, Deferred) or failure.reason in MOMENTARY
                if not momentary and not (isinstance(failure, Defect) and defects < DEFECTS_MAX):
                    raise
            else:
                self.answered += 1
                return answer
            if time.monotonic() > began + answer_timeout_s:
                raise GaveUp(name)
            if time.monotonic() > max(began, self.calm_since) + ANSWER_TIMEOUT_S:
                self.faults.add(
                    f"{name} is not answered within {ANSWER_TIMEOUT_S:.0f} s without a fault"
                )
                raise GaveUp(name)
            # The pauses between two calls grow and differ: immediate repeats of all callers would
            # overload a restarted service.
            await asyncio.sleep(  # the pause of a retry
                min(AGAIN_MIN_S * 2.0 ** min(attempt, 10), AGAIN_MAX_S) * random.uniform(0.5, 1.0)
            )
        raise AssertionError("there is always another attempt")

    async def _repeat(self, method: Any, request: Message, answer: Any) -> None:
        """Checks that a repeat is answered as the first call was: about the same resource, without
        a refusal.
        """
        name = method_name(request)
        try:
            second = await self._until_answered(method, request)
        except GaveUp:
            return
        except Failure as failure:
            self.faults.add(f"{name} was answered, and its repeat refused: {why(failure)}")
            return
        if (first_id := identity(answer)) != (second_id := identity(second)):
            self.faults.add(f"{name} was answered with {first_id}, and its repeat with {second_id}")

    def _note(self, name: str, failure: Failure) -> None:
        if isinstance(failure, Defect):
            details = getattr(failure.__cause__, "details", lambda: None)()
            self.faults.add(f"{name} answers {why(failure)}: {details}")
        elif failure.metadata.get("peer_code") == "UNIMPLEMENTED":
            self.faults.add(f"{name} is not implemented")
            raise failure


def why(failure: Failure) -> str:
    """Returns the reason of the service, or the status code if it gave none."""
    return (
        failure.metadata.get("peer_reason") or failure.metadata.get("peer_code") or failure.reason
    )


def identity(answer: Any) -> str:
    """Returns the id of the resource in an answer."""
    for field, value in answer.ListFields():
        if field.message_type is not None and not field.is_repeated:
            return str(value.ListFields()[0][1])
    return ""


@asynccontextmanager
async def calling(addresses: Mapping[str, str]) -> AsyncIterator[Calls]:
    """Opens clients of the services at their addresses."""
    async with AsyncExitStack() as stack:
        yield Calls(
            {
                name: await stack.enter_async_context(connect(address))
                for name, address in addresses.items()
            }
        )
