"""Payments without the transport, over a connection to the sandbox that a test controls."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from payment_svc.model.answers import Answer
from payment_svc.model.records import Payment
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.world import World

Reply = Callable[[Authorization, Awaitable[Answer]], Awaitable[Answer]]


@dataclass
class Line:
    """The connection to the sandbox, which a test controls: `reply` decides when and whether the
    processor's answer arrives.
    """

    sandbox: Sandbox
    reply: Reply

    async def authorize(self, request: Authorization) -> Answer:
        return await self.reply(request, self.sandbox.authorize(request))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sandbox, name)


async def outcomes(*calls: Awaitable[Payment]) -> list[Payment | BaseException]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def the_payment(world: World, order_id: str) -> Payment:
    [payment] = (await world.account(order_id)).payments
    return payment


def body_of(
    sandbox: Sandbox, operation_id: UUID, code: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Returns the webhook that the sandbox would send about an operation."""
    state = "declined" if code else "succeeded"
    return sandbox.webhook(
        Entry(
            key=operation_id,
            kind="charge",
            state=state,
            request_hash=None,
            token=None,
            amount=4250,
            code=code,
            final=False,
        ),
        datetime.now(UTC),
    )


async def through(_: Authorization, question: Awaitable[Answer]) -> Answer:
    """Passes each answer on, unchanged."""
    return await question
