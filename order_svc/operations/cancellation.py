"""Orders, or units of them, are cancelled, by a caller or by the expiry worker."""

from uuid import UUID

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc.model.commands import ExpireOrder, Request
from order_svc.model.records import Order
from order_svc.operations.releasing import StockReleaser
from order_svc.store.orders import find_expired

EXPIRY_BATCH = 100


class CancellationOperations:
    """The operations that cancel orders and units."""

    def __init__(self, database: Database, writer: Writer[Order], releaser: StockReleaser) -> None:
        self.database, self.writer, self.releaser = database, writer, releaser
        self._expired = telemetry.counter(
            "orders_expired_total", "Orders that were not paid in time"
        )

    async def cancel(self, envelope: Envelope[Request]) -> Order:
        """Writes the cancellation, then releases the stock of an order that is cancelled by it. A
        failed release fails nothing.
        """
        [outcome] = await self.writer.write([envelope])
        crash_points.point("order.cancelled")
        await self.releaser.release_cancelled([outcome])
        return unwrap(outcome)

    async def expire_orders(self) -> int:
        """Cancels the orders that were not paid in time, in batches; replicas share them. Returns
        how many it cancelled.

        An order may be paid, or cancelled by another replica, before it is written: its decision
        is made under its lock. Where the write of an order fails, it goes on with the others and
        raises the first failure at the end; the next call tries that order again.
        """
        expired, failures, last = 0, list[Failure](), None
        while True:
            async with self.database.engine.begin() as connection:
                chosen = await find_expired(connection, last, EXPIRY_BATCH)
            outcomes = await self.writer.write([_expiry(id) for _, id in chosen])
            cancelled = [o for o in outcomes if isinstance(o, Done) and not o.skipped]
            await self.releaser.release_cancelled(cancelled)
            self._expired.inc(len(cancelled))
            expired += len(cancelled)
            failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]
            if len(chosen) < EXPIRY_BATCH:
                break
            last = chosen[-1]
        if failures:
            raise failures[0]
        return expired


def _expiry(order_id: UUID) -> Envelope[ExpireOrder]:
    """Returns the envelope of an expiry. The key is new each time: the order itself shows whether
    its time is over.
    """
    key = f"order.expiry:{uuid7()}"
    return Envelope(
        key=key,
        request_hash=b"",
        target=order_id,
        actor="order",
        cause=key,
        command=ExpireOrder(),
    )
