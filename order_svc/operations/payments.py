"""Payments of orders, and the commit of their stock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc.decisions.payments import accepts
from order_svc.lifecycle import Reason
from order_svc.model.commands import (
    ApplyReservation,
    CommitPending,
    CommitRefused,
    Committed,
    ConfirmPayment,
    FailPayment,
)
from order_svc.model.records import Order
from order_svc.operations.releasing import StockReleaser
from order_svc.peers import Warehouse
from order_svc.store.orders import count_commit_pending_orders
from order_svc.store.workspace import find_pending_orders

COMMIT_LABELS = {Committed: "confirmed", CommitPending: "pending", CommitRefused: "refused"}


class PaymentOperations:
    """The operations on payments and on stock commits, by events."""

    def __init__(
        self,
        database: Database,
        writer: Writer[Order],
        warehouse: Warehouse,
        releaser: StockReleaser,
    ) -> None:
        self.database, self.writer = database, writer
        self.warehouse, self.releaser = warehouse, releaser
        self._commits = telemetry.counter(
            "order_stock_commits_total",
            "Orders whose stock was committed, whose commit is pending, or was refused",
            "answer",
        )
        self._commit_pending = telemetry.reading(
            "orders_commit_pending", "Paid orders whose stock the warehouse has not committed yet"
        )

    async def confirm_payments(
        self, envelopes: Sequence[Envelope[ConfirmPayment]]
    ) -> Sequence[Outcome[Order]]:
        """Commits the stock of all orders that wait for these payments, in one call, and
        confirms them. A payment that the write refuses commits no stock.

        It reads the pending orders with their lines: `accepts` compares a payment with their total.
        """
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            pending = await find_pending_orders(connection, [each.target for each in envelopes])
        waiting = {
            (each.target, each.command.attempt)
            for each, refusal in zip(envelopes, refusals, strict=True)
            if refusal is None
            and (order := pending.get(each.target))
            and order.attempt == each.command.attempt
            and accepts(order, each.command.captured)
        }
        answers = await self.warehouse.commit(uuid7(), sorted(waiting)) if waiting else {}
        crash_points.point("order.committed")
        answered = [
            each.with_command(
                replace(each.command, stock=answers.get(each.target, CommitPending()))
            )
            for each in envelopes
        ]
        outcomes = await self.writer.write(answered)
        for each, outcome in zip(answered, outcomes, strict=True):
            if (
                (each.target, each.command.attempt) in waiting
                and isinstance(outcome, Done)
                and not outcome.repeat
            ):
                self._commits.labels(COMMIT_LABELS[type(each.command.stock)]).inc()
        return outcomes

    async def fail_payments(
        self, envelopes: Sequence[Envelope[FailPayment]]
    ) -> Sequence[Outcome[Order]]:
        """Cancels the orders that are not paid, and releases their stock."""
        outcomes = await self.writer.write(envelopes)
        await self.releaser.release_cancelled(outcomes)
        return outcomes

    async def apply_reservations(
        self, envelopes: Sequence[Envelope[ApplyReservation]]
    ) -> Sequence[Outcome[Any]]:
        """Writes what the warehouse reports of reservations.

        The end of a reservation that has no order is done without effect.
        """
        outcomes: list[Outcome[Any]] = []
        for each, outcome in zip(envelopes, await self.writer.write(envelopes), strict=True):
            if (
                each.command.refused
                and isinstance(outcome, Done)
                and not outcome.repeat
                and outcome.record.reason == Reason.STOCK_UNAVAILABLE
            ):
                self._commits.labels(COMMIT_LABELS[CommitRefused]).inc()
            needs_order = each.command.allocations or each.command.refused
            skipped = isinstance(outcome, NotFound) and not needs_order
            outcomes.append(Done(record=None) if skipped else outcome)
        return outcomes

    async def count_commit_pending(self) -> None:
        """Sets the gauge of the orders whose stock commit is pending."""
        with telemetry.reading_of(self._commit_pending):
            async with self.database.read() as connection:
                count = await count_commit_pending_orders(connection)
        self._commit_pending.set(count)
