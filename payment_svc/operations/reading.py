"""Payments, refunds and history, as callers read them; gauges of refunds and contradictions."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.observe import telemetry
from chassis.values.errors import NotFound
from chassis.values.paging import Page
from chassis.write.database import Database
from payment_svc.model.filters import PaymentFilter, RefundFilter
from payment_svc.model.records import Payment
from payment_svc.store.history import list_history
from payment_svc.store.operations import open_contradictions
from payment_svc.store.payments import find_payment, list_payments
from payment_svc.store.refunds import list_refunds, open_refunds


class ReadOperations:
    """The reads of payments."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._refunds_open = telemetry.reading(
            "payment_refunds_open", "Refunds that wait for the processor's answer"
        )
        self._refund_age = telemetry.reading(
            "payment_refunds_open_seconds", "How long the oldest of them has been waiting"
        )
        self._contradictions_open = telemetry.reading(
            "processor_contradictions_open",
            "Contradictions that no operator has resolved: alert on it",
        )

    async def get_payment(self, payment_id: UUID) -> Payment:
        """Raises NotFound PAYMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            payment = await find_payment(connection, payment_id)
        if payment is None:
            raise NotFound(
                "PAYMENT_NOT_FOUND",
                f"There is no payment {payment_id}.",
                payment_id=str(payment_id),
            )
        return payment

    async def list_payments(self, filters: PaymentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await list_payments(connection, filters, page), lambda payment: (payment.id,)
            )

    async def list_refunds(self, filters: RefundFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await list_refunds(connection, filters, page),
                lambda refund: (refund.request_time, refund.id),
            )

    async def list_transitions(self, payment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of the payment's history, oldest first.

        `page.encode` gets each row with its operation's kind. Raises NotFound PAYMENT_NOT_FOUND.
        """
        await self.get_payment(payment_id)
        async with self.database.read() as connection:
            rows = await list_history(connection, payment_id, page)
        return page.cut(rows, lambda row: (row[0].version,))

    async def measure(self) -> None:
        """Sets the gauges of open refunds, and of contradictions that no operator has resolved."""
        with telemetry.reading_of(self._refunds_open, self._refund_age, self._contradictions_open):
            async with self.database.read() as connection:
                count, age_s = await open_refunds(connection)
                contradictions = await open_contradictions(connection)
        self._refunds_open.set(count)
        self._refund_age.set(age_s)
        self._contradictions_open.set(contradictions)
