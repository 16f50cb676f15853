"""A service's database is restored to an older state: the audit finds it, and its repairs work."""

import asyncio
import json
import shlex
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2
from sqlalchemy import create_engine, text

from chassis.rpc.client import ask
from devstack.stack import Stack
from simulator.config import Settings
from simulator.services import Services, connected
from tests.support import Accounts, Databases, eventually, reachable_folder
from tests.system.test_omctl import Omctl
from tests.system.walk import RECIPIENT

TIMEOUT_S = 60.0
ROUNDS_MAX = 5
# A service, the audit's differences after its restoration, and the command that repairs them.
RESTORED = (
    ("order", ("payment.order", "fulfillment.order"), "undo"),
    ("payment", ("money.unpaid",), "cancel"),
)


@pytest.fixture
async def own_stack(postgres: str, nats_server: Accounts) -> AsyncIterator[Stack]:
    """A separate stack: its audit has no other test's orders."""
    nats_url = await nats_server.take()
    with reachable_folder("ordermesh-restored-") as folder:
        prefix = f"restored_{uuid.uuid4().hex[:8]}_"
        async with Stack(
            folder, database_url=postgres, nats_url=nats_url, database_prefix=prefix
        ) as stack:
            yield stack
    nats_server.give_back(nats_url)


async def order_paid(services: Services, sku: str) -> str:
    """Places and pays an order of two lamps; returns its id."""
    item = order_service_pb2.NewOrderItem(
        sku=sku, quantity=2, unit_price=Money(currency_code="GBP", units=3)
    )
    request = order_service_pb2.CreateOrderRequest(
        request_id=str(uuid.uuid4()), items=[item], recipient=RECIPIENT
    )
    order = (await services.ask(services.orders.CreateOrder, request, wait_s=TIMEOUT_S)).order
    pay = payment_service_pb2.CreatePaymentRequest(
        request_id=str(uuid.uuid4()),
        order_id=order.order_id,
        payment_method_token="tok_ok",
        expected_amount=order.total_amount,
    )
    await services.ask(services.payments.CreatePayment, pay, wait_s=TIMEOUT_S)
    return str(order.order_id)


async def findings(omctl: Omctl) -> list[dict[str, str]]:
    """Returns the audit's findings, in its order."""
    process = await omctl.start("audit", "--settle", "1", "--stuck-after", "2", "--json")
    out, err = await process.communicate()
    assert process.returncode in (0, 1), (out + err).decode()
    return [json.loads(line) for line in out.decode().splitlines()]


async def test_restored_databases_are_repaired_by_the_audit(
    own_stack: Stack, databases: Databases
) -> None:
    """A service's database is backed up, then an order is paid and worked on, then the backup is
    restored: of the order service, and later of the payment service. The audit reports that first.
    After its commands it finds nothing, and all stock is restored.
    """
    stack, omctl = own_stack, Omctl(own_stack)
    async with shop(stack) as (services, sku):
        for service, checks, repair in RESTORED:
            backup = await backed_up(stack, databases, service)
            order_id = await order_paid(services, sku)
            await eventually(partial(is_worked_on, services, order_id), timeout_s=TIMEOUT_S)
            await come_back(stack, databases, service, backup)
            found = await findings(omctl)
            assert (found[0]["check"], found[0]["repair"]) == (
                "database.restored",
                f"omctl events adopt --service {service}",
            )
            repairs = {each["check"]: each["repair"] for each in found}
            assert {repairs[check] for check in checks} == {f"omctl order {repair} {order_id}"}
            await repaired(omctl, found)
            assert await balances(omctl, sku) == ("10", "0", "0")


async def repaired(omctl: Omctl, found: list[dict[str, str]]) -> None:
    """Runs the audit's commands until it finds nothing: a repair continues by events, and shows the
    next one.
    """
    for _ in range(ROUNDS_MAX):
        for repair in dict.fromkeys(each["repair"] for each in reversed(found)):
            await omctl(*shlex.split(repair)[1:])
        if not (found := await findings(omctl)):
            break
    assert not found


async def balances(omctl: Omctl, sku: str) -> tuple[str, str, str]:
    """Returns the available, reserved and committed units of the SKU."""
    level = json.loads(await omctl("stock", "list", "--sku", sku, "--json"))
    return level["available"], level.get("reserved", "0"), level.get("committed", "0")


@asynccontextmanager
async def shop(stack: Stack) -> AsyncIterator[tuple[Services, str]]:
    """The services, and a SKU with ten units in London."""
    addresses = {f"{name}_address": address for name, address in stack.addresses.items()}
    sku = f"lamp-{uuid.uuid4().hex[:8]}"
    # pydantic makes the secret
    settings = Settings(**addresses, nats_url=stack.nats_url)  # type: ignore[arg-type]
    async with connected(settings) as services:
        line = inventory_service_pb2.ReceivedLine(sku=sku, quantity=10)
        receive = inventory_service_pb2.ReceiveStockRequest(
            request_id=str(uuid.uuid4()), warehouse_id="london", lines=[line]
        )
        await services.ask(services.inventory.ReceiveStock, receive, wait_s=TIMEOUT_S)
        yield services, sku


async def is_worked_on(services: Services, order_id: str) -> bool:
    """Whether the order has a fulfilment in each of its warehouses."""
    request = order_service_pb2.GetOrderRequest(order_id=order_id)
    order = (await ask(services.orders.GetOrder, request, timeout_s=5)).order
    return bool(order.fulfillments) and all(part.fulfillment_id for part in order.fulfillments)


async def backed_up(stack: Stack, databases: Databases, service: str) -> str:
    """Returns the URL of a copy of the service's database."""
    await stack.services[service].stop()
    backup = await asyncio.to_thread(databases.create, stack.database_urls[service])
    await stack.services[service].start()
    return backup


async def come_back(stack: Stack, databases: Databases, service: str, backup: str) -> None:
    """Restarts the service on the copy."""
    await stack.services[service].stop()
    await asyncio.to_thread(replaced, databases, stack.database_urls[service], backup)
    await stack.services[service].start()


def replaced(databases: Databases, url: str, backup: str) -> None:
    """Restores the backup under the database's name."""
    name = url.rpartition("/")[2].partition("?")[0]
    databases.drop(url)
    server = create_engine(databases.create(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(
            text(
                f'alter database "{backup.rpartition("/")[2].partition("?")[0]}" rename to "{name}"'
            )
        )
    server.dispose()
