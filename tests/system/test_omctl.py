"""omctl against the five services, for people and for scripts."""

import asyncio
import json
import sys
import uuid
from typing import Any

import pytest
from ordermesh.order.v1 import order_pb2

from devstack.stack import Stack
from simulator import requests
from tests.support import Eventually
from tests.system.walk import LIFE, open_shop

RUN_TIMEOUT_S = 60.0
RECIPIENT = (
    "--currency",
    "GBP",
    "--name",
    "Ada Lovelace",
    "--country",
    "GB",
    "--address-line",
    "12 St James's Square",
)


class Omctl:
    """omctl at a shell beside the stack."""

    def __init__(self, stack: Stack) -> None:
        self._environment = stack.environment | {"PATH": ""}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Starts a command."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "omctl",
            *arguments,
            env=self._environment,
            stdout=pipe,
            stderr=pipe,
        )

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """Runs a command that ends with this exit code. Returns its stdout, or its stderr if it
        fails.
        """
        process = await self.start(*arguments)
        async with asyncio.timeout(RUN_TIMEOUT_S):
            out, err = await process.communicate()
        assert process.returncode == code, (out + err).decode()
        return (err if code else out).decode()


@pytest.fixture
def omctl(stack: Stack) -> Omctl:
    """omctl beside the stack of all system tests."""
    return Omctl(stack)


async def place_order(omctl: Omctl, request_id: str) -> dict[str, Any]:
    """Receives five teapots and places an order of two, twice with the same request_id. Returns the
    order. Checks that it exists once, and reserves its units.
    """
    sku = f"teapot: {uuid.uuid4()}"
    received = json.loads(
        await omctl("stock", "receive", "london-1", "--item", f"{sku}:5", "--json")
    )
    assert received["stockLevels"][0]["sellable"] == "5"
    create = (
        "order",
        "create",
        "--item",
        f"{sku}:2:18.95",
        "--shipping",
        "3.95",
        *RECIPIENT,
        "--request-id",
        request_id,
        "--json",
    )
    order: dict[str, Any] = json.loads(await omctl(*create))
    assert (order["status"], order["totalAmount"]["units"], order["totalAmount"]["nanos"]) == (
        "ORDER_STATUS_PENDING",
        "41",
        850_000_000,
    )
    assert json.loads(await omctl(*create)) == order
    assert order["orderNumber"] in await omctl("order", "get", order["orderId"])
    [level] = map(json.loads, (await omctl("stock", "list", "--sku", sku, "--json")).splitlines())
    assert (level["available"], level["reserved"], level["sellable"]) == ("5", "2", "3")
    return order


async def pay_until_delivered(
    stack: Stack, eventually: Eventually, order_id: str, request_id: str
) -> None:
    """Pays the order; the staff of a shop then deliver it."""
    async with open_shop(stack) as shop:
        placed = order_pb2.Order(order_id=order_id, total_amount=requests.pence(4185), version=1)
        followed = shop.world.follow(placed)
        await shop.services.ask(
            shop.services.payments.CreatePayment, requests.payment(placed, uuid.UUID(request_id))
        )
        await eventually(
            followed.ended.is_set, timeout_s=RUN_TIMEOUT_S, what="the order is delivered"
        )


async def test_order_is_placed_and_watched_by_omctl(
    omctl: Omctl, stack: Stack, eventually: Eventually
) -> None:
    """Stock is received, an order placed, and found by id and number. The same request_id places it
    once. A watch from before the payment shows the order's life, and ends with its delivery.
    """
    request_id = str(uuid.uuid4())
    order = await place_order(omctl, request_id)
    watching = await omctl.start(
        "order", "watch", order["orderNumber"], "--json", "--timeout", str(RUN_TIMEOUT_S)
    )
    assert watching.stdout is not None
    first = json.loads(await asyncio.wait_for(watching.stdout.readline(), RUN_TIMEOUT_S))
    await pay_until_delivered(stack, eventually, order["orderId"], request_id)
    rest, _ = await asyncio.wait_for(watching.communicate(), RUN_TIMEOUT_S)
    steps = [first, *map(json.loads, rest.splitlines())]
    assert (
        watching.returncode,
        [step["newStatus"].removeprefix("ORDER_STATUS_") for step in steps],
    ) == (0, LIFE)
    shown = (await omctl("order", "timeline", order["orderId"])).splitlines()
    assert [line.split()[2].upper() for line in shown] == LIFE
    listed = await omctl("order", "list", "--status", "delivered", "--limit", "0")
    assert order["orderNumber"] in listed


async def test_refusal_is_one_line_with_its_reason(omctl: Omctl) -> None:
    """A refusal of the services is one line with its reason, and an exit code for scripts."""
    short = await omctl("order", "create", "--item", "no such thing:1:1", *RECIPIENT, code=1)
    assert "omctl: INSUFFICIENT_STOCK: " in short
    assert "no such thing: requested 1, sellable 0" in short
    bad = await omctl("order", "create", "--item", "a:0:1", *RECIPIENT, code=1)
    assert "omctl: VALIDATION_FAILED" in bad
    assert "items[0].quantity: must be" in bad
    assert "ORDER_NOT_FOUND" in await omctl("order", "get", str(uuid.uuid4()), code=3)
    assert "ORDER_NOT_FOUND" in await omctl("order", "watch", "OM-0", code=3)


async def test_events_of_an_order_are_published_again_by_omctl(
    omctl: Omctl, stack: Stack, eventually: Eventually
) -> None:
    """Every service reports the state of its outbox. Each service with events of an order publishes
    them again, and they change nothing.
    """
    sku, request_id = f"teapot: {uuid.uuid4()}", str(uuid.uuid4())
    await omctl("stock", "receive", "london-1", "--item", f"{sku}:5")
    create = ("order", "create", "--item", f"{sku}:2:18.95", *RECIPIENT, "--json")
    order = json.loads(await omctl(*create))

    async def published() -> bool:
        stats = [
            json.loads(line) for line in (await omctl("events", "stats", "--json")).splitlines()
        ]
        assert [line["service"] for line in stats] == [
            "order",
            "warehouse",
            "fulfillment",
            "shipping",
            "payment",
        ]
        return not any(int(line["waitingCount"]) for line in stats)

    await eventually(published, timeout_s=RUN_TIMEOUT_S)
    again = (
        "events",
        "republish",
        "--aggregate",
        order["orderId"],
        "--request-id",
        request_id,
        "--json",
    )
    counts = {
        line["service"]: line["eventCount"]
        for line in map(json.loads, (await omctl(*again)).splitlines())
    }
    assert counts["order"] == "1"
    assert counts["shipping"] == "0"
    await eventually(published, timeout_s=RUN_TIMEOUT_S)
    assert json.loads(await omctl("order", "get", order["orderId"], "--json")) == order
    assert order["orderId"] not in await omctl("events", "failed", "--limit", "0")
