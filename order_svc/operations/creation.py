"""Orders are placed, and failed ones are tried again, with stock that is reserved first."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid5

from uuid_utils.compat import uuid7

from chassis.values import crash_points
from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Exists, Failure
from chassis.values.request_context import KeyReused
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc.decisions.creation import PAYMENT_WINDOW, check, check_retry
from order_svc.lifecycle import Status
from order_svc.model.checkout import Checkout
from order_svc.model.commands import PlaceOrder, RetryOrder
from order_svc.model.records import Order
from order_svc.operations.reading import ReadOperations
from order_svc.operations.releasing import StockReleaser
from order_svc.peers import Warehouse
from order_svc.store.workspace import holder_of_reference, order_of_checkout

# The reservation outlives the order's 30 minutes by a grace, so that the order decides first.
# A constant, so that the reserve request of a second try has the same hash. (The warehouse leaves
# the order_id, which is new at each try, out of the hash.)
RESERVATION_TTL = PAYMENT_WINDOW + timedelta(minutes=5)


class CreationOperations:
    """The operations that reserve stock: CreateOrder and RetryOrder."""

    def __init__(
        self,
        database: Database,
        writer: Writer[Order],
        warehouse: Warehouse,
        releaser: StockReleaser,
        reading: ReadOperations,
    ) -> None:
        self.database, self.writer, self.warehouse = database, writer, warehouse
        self.releaser, self.reading = releaser, reading

    async def create_order(self, envelope: Envelope[PlaceOrder]) -> Order:
        """Reserves the checkout's stock, then stores the order.

        The envelope's target is the id of the request. The order gets the id that the warehouse
        returns: a second try after a crash between the two gets the reservation and the order id
        of the first. A repeat for a placed order reserves nothing.
        """
        command, request_id = envelope.command, envelope.target
        checkout = command.checkout
        check(checkout)
        async with self.database.read() as connection:
            order_id = await order_of_checkout(connection, command.checkout_key)
        if order_id:
            [outcome] = await self.writer.write([replace(envelope, target=order_id)])
            return unwrap(outcome)
        await self._check_reference(checkout, None)
        wanted = [
            (number, line.sku, line.quantity) for number, line in enumerate(checkout.lines, 1)
        ]
        order_id, allocations = await self.warehouse.reserve(
            request_id, uuid7(), 1, wanted, RESERVATION_TTL
        )
        crash_points.point("order.reserved")
        placing = replace(command, allocations=allocations)
        [outcome] = await self.writer.write([replace(envelope, target=order_id, command=placing)])
        # KeyReused: an order with this request_id exists, and keeps the reservation.
        if isinstance(outcome, Failure) and not isinstance(outcome, KeyReused):
            try:
                # The write also fails where another order has taken the reference meanwhile.
                await self._check_reference(checkout, order_id)
            except Exists:
                await self.releaser.release([(order_id, 1)])
                raise
        return unwrap(outcome)

    async def retry_order(self, envelope: Envelope[RetryOrder]) -> Order:
        """Reserves a failed order's stock anew, then makes the order pending again. Every request
        for the same attempt gets the same reservation.

        A repeat reserves nothing: the order may have failed once more since.
        """
        async with self.database.read() as connection:
            repeat = await self.database.was_done(connection, envelope.key)
        [order] = await self.reading.get_orders([envelope.target])
        if order.status is Status.FAILED and not repeat:
            check_retry(order, envelope.command)
            await self._check_reference(order, order.id)
            attempt = order.attempt + 1
            wanted = [
                (line.number, line.sku, line.remaining) for line in order.lines if line.remaining
            ]
            request_id = uuid5(order.id, f"retry:{attempt}")
            _, allocations = await self.warehouse.reserve(
                request_id, order.id, attempt, wanted, RESERVATION_TTL
            )
            crash_points.point("order.reserved")
            retry = replace(envelope.command, attempt=attempt, allocations=allocations)
            envelope = envelope.with_command(retry)
        [outcome] = await self.writer.write([envelope])
        if isinstance(outcome, Failure) and not isinstance(outcome, KeyReused):
            await self._check_reference(order, order.id)
        return unwrap(outcome)

    async def _check_reference(self, of: Checkout | Order, own: UUID | None) -> None:
        """Raises Exists EXTERNAL_REFERENCE_TAKEN where the order is to have its external
        reference alone, and another one holds it.
        """
        if not of.unique_external_reference or of.external_reference is None:
            return
        async with self.database.read() as connection:
            holder = await holder_of_reference(connection, of.customer_id, of.external_reference)
        if holder not in (None, own):
            text = (
                f"Order {holder} has the external_reference {of.external_reference!r}, and is to"
                " have it alone."
            )
            raise Exists("EXTERNAL_REFERENCE_TAKEN", text, order_id=str(holder))
