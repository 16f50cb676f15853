"""What an order costs now, by the order service or by the account's copy."""

from uuid import UUID

import structlog

from chassis.observe import telemetry
from chassis.values import deadline
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred
from chassis.write.database import Database
from payment_svc.model.commands import CreateRequest
from payment_svc.model.records import Order
from payment_svc.peers import Orders
from payment_svc.store.accounts import find_account

# The timeout of a call to the order service, and the share of the caller's remaining time that it
# may take: without an answer the account's copy of the order decides.
ORDER_TIMEOUT_S, ORDER_SHARE = 2.0, 0.25

_log = structlog.get_logger(__name__)


class OrderOperations:
    """Reads what an order costs now."""

    def __init__(self, database: Database, peer: Orders) -> None:
        self.database, self.peer = database, peer
        self._copies = telemetry.counter(
            "payment_stored_orders_used_total",
            "Charges and captures decided on the stored order: the order service was unreachable",
        )

    async def order_to_pay(self, envelope: Envelope[CreateRequest]) -> Order | None:
        """The order service's answer now.

        None: the request is a repeat, or the account's copy of the order decides.
        """
        order_id = envelope.target
        async with self.database.read() as connection:
            account = await find_account(connection, order_id)
        if account and account.requested_by(envelope.key):
            return None
        return await (self.current_order(order_id) if account else self.peer.get(order_id))

    async def current_order(self, order_id: UUID) -> Order | None:
        """The order as the order service returns it now; None where the service is unreachable, and
        the account's copy of the order decides.
        """
        remaining_s = deadline.remaining()
        timeout_s = ORDER_TIMEOUT_S
        if remaining_s is not None:
            timeout_s = min(ORDER_TIMEOUT_S, remaining_s * ORDER_SHARE)
        try:
            return await self.peer.get(order_id, timeout_s)
        except Deferred as error:
            self._copies.inc()
            _log.warning(
                "the order service is unreachable: the stored order decides",
                order_id=str(order_id),
                reason=error.reason,
            )
            return None
