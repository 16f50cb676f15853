"""The sample service as a separate process, for tests that freeze or kill it: `python -m
tests.sample.process DATABASE NATS`.

With `orders N`, it places N orders in sequence. With `pay N`, it places N orders and publishes for
each an event that it is paid. An order's payment is an event of its own stream, of which only the
order id counts. An event whose `old` is POISON kills the process.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.broker import stream
from chassis.consume import inbox
from chassis.consume.delivery import Delivery
from chassis.consume.inbox import Inbox
from chassis.publish import relay
from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from tests.sample import store
from tests.sample.events import SampleNoted, SamplePaid
from tests.sample.inbox import publish
from tests.sample.model import ConfirmPayment, Order
from tests.sample.writes import placed, write
from tests.streams import ensure_streams

POISON = "poison"


async def main(database_url: str, nats_url: str, what: str = "", number: str = "0") -> None:
    """Serves until it is killed; prints "ready" when it has started."""
    # so that a killed process's unacknowledged events come again soon
    stream.ACK_WAIT_S, inbox.IN_PROGRESS_S = 1.0, 0.3
    relay.POLL_S, relay.SESSION_TIMEOUT_S = 0.1, 1.0
    database = Database(
        connect(database_url), store.idempotency_keys, Outbox(store.outbox, encode=store.event)
    )
    broker = await stream.connect(nats_url, name="sample")
    await ensure_streams(broker)

    async def paid(deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Order]]:
        if any(d.message.old == POISON for d in deliveries):
            os.kill(os.getpid(), signal.SIGKILL)
        return await write(
            database,
            *(
                Envelope.of_event(
                    d, ConfirmPayment(), target=UUID(d.message.order_id), actor="payment"
                )
                for d in deliveries
            ),
        )

    publisher = relay.Relay(
        database,
        broker,
        positions=store.stream_positions,
        stream="ORDERS",
        source="sample",
    )
    consumers = Inbox(
        broker,
        database.engine,
        store.failed_events,
        service="sample",
        handlers={SampleNoted: paid, SamplePaid: paid},
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.run())
        group.create_task(consumers.run())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in range(int(number)):
            [order] = await placed(database)
            if what == "pay":
                await publish(broker, SampleNoted(order_id=str(order)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
