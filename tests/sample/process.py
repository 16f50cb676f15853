"""The sample service as a process of its own, for tests that freeze or kill it: `python -m tests.sample.process DATABASE NATS`.

With `orders N` behind it, it first places N orders, one after the other.
"""

import asyncio
import sys

from chassis.database import Database, connect
from chassis.outbox import Outbox
from chassis.relay import Relay
from chassis.stream import connect as connect_broker
from tests.sample import store
from tests.sample.writes import placed


async def main(database_url: str, nats_url: str, *orders: str) -> None:
    """Relays until it is killed; says "ready" when it has begun."""
    database = Database(connect(database_url), store.claims, Outbox(store.outbox, encode=store.event))
    broker = await connect_broker(nats_url, name="sample")
    await broker.ensure_streams()
    relay = Relay(database, broker, stream="ORDERS", source="sample", poll_s=0.1, session_timeout_s=1.0)
    running = asyncio.create_task(relay.run())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in range(int(orders[1]) if orders else 0):
        await placed(database)
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
