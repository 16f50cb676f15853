"""Purchases of labels, by a call, an event or the sweeper."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import structlog

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc.decisions.refusals import LABEL_REFUSAL_REASONS
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import FailLabel, RecordLabel
from shipping_svc.model.records import ClosedOrders, Label, Shipment, purchase_key
from shipping_svc.operations.carrier_calls import CarrierCalls, log_defects
from shipping_svc.operations.sweeping import Sweeper
from shipping_svc.operations.writing import write_by_key
from shipping_svc.peers import Orders
from shipping_svc.store.closed import find_closed
from shipping_svc.store.labels import count_pending_labels, start_due_label_tries
from shipping_svc.store.shipments import find_shipments

_log = structlog.get_logger(__name__)


class LabelOperations:
    """The purchases of labels."""

    def __init__(
        self,
        database: Database,
        writer: Writer[Shipment],
        calls: CarrierCalls,
        orders: Orders,
        retry_s: float,
    ) -> None:
        self.database, self.writer, self.calls, self.orders = database, writer, calls, orders
        self._label_tries = telemetry.counter(
            "shipping_label_tries_total",
            "Requests of labels, by outcome",
            "outcome",
        )
        self._sweeper = Sweeper(
            database,
            retry_s,
            telemetry.reading(
                "shipping_labels_waiting", "Shipments whose label is still to be bought"
            ),
            telemetry.reading(
                "shipping_labels_waiting_seconds",
                "Time since the creation of the oldest shipment whose label is still to be bought",
            ),
        )

    async def buy_pending_labels(self) -> None:
        """Buys the labels that a call, an event or an earlier turn did not get: after a crash, or
        where the carrier did not answer.

        Several replicas may run this at once.
        """
        await self._sweeper.sweep(start_due_label_tries, self._buy_due, count_pending_labels)

    async def _buy_due(self, ids: Sequence[UUID]) -> None:
        if not ids:
            return
        async with self.database.read() as connection:
            found = await find_shipments(connection, ids)
        pending = [shipment for shipment in found.values() if shipment.status is Status.PENDING]
        # A request without an answer holds a slot. The order is random, so that no label always
        # waits for it.
        random.shuffle(pending)
        await self.buy(pending)

    async def buy(self, shipments: Sequence[Shipment]) -> list[Outcome[Shipment]]:
        """Buys the labels of pending shipments, and returns the outcomes in the same order.

        It calls the carrier for all of them at once, then stores its answers in one write.
        """
        if not shipments:
            return []
        # Read after the pending shipments are committed: of a concurrent closing and creation at
        # least one reads the other's row.
        async with self.database.read() as connection:
            closed = await find_closed(
                connection,
                {shipment.order_id for shipment in shipments},
                {shipment.fulfillment_id for shipment in shipments},
            )
        answers = await asyncio.gather(
            *(self._request_label(shipment, closed) for shipment in shipments)
        )
        crash_points.point("shipping.label_bought")
        written = await write_by_key(
            self.writer, [answer for answer in answers if not isinstance(answer, Failure)]
        )
        outcomes = [
            answer if isinstance(answer, Failure) else written[answer.key] for answer in answers
        ]
        log_defects(
            "a label could not be bought, because of a defect",
            [shipment.id for shipment in shipments],
            outcomes,
        )
        _log_duplicate_numbers(answers, outcomes)
        return outcomes

    async def _request_label(
        self,
        shipment: Shipment,
        closed: ClosedOrders,
    ) -> Envelope[RecordLabel | FailLabel] | Failure:
        """Returns the command that stores the label, or that fails the shipment.

        The shipment fails where its order or fulfilment is closed, or where the carrier refuses.
        Returns a failure where the shipment stays pending.
        """
        key = purchase_key(shipment.id, shipment.purchase)  # one purchase has one result
        purchase = Envelope(
            key=key,
            request_hash=b"",
            target=shipment.id,
            actor=self.calls.carrier.name,
            cause=key,
            command=None,
        )
        if reason := closed.reason(shipment):
            self._count_try(reason)
            # Not the purchase's key: that exists where another replica has stored the label.
            return purchase.step("closed", FailLabel(reason=reason))
        label = await self.calls.call(partial(self._buy_label, key, shipment), self._count_try)
        if isinstance(label, Failure):
            if label.reason not in LABEL_REFUSAL_REASONS:
                return label
            command = FailLabel(
                reason=Reason(label.reason),
                carrier_code=label.metadata.get("carrier_code"),
                purchase=shipment.purchase,
            )
            return purchase.step("refused", command)
        self._count_try("bought")
        return purchase.with_command(RecordLabel(label=label, purchase=shipment.purchase))

    def _count_try(self, outcome: str) -> None:
        self._label_tries.labels(outcome.lower()).inc()

    async def _buy_label(self, key: str, shipment: Shipment) -> Label:
        recipient = await self.orders.get_recipient(shipment.order_id)
        return await self.calls.carrier.buy_label(
            key, shipment.parcels, recipient, shipment.warehouse_id
        )


def _log_duplicate_numbers(
    answers: Sequence[object], outcomes: Sequence[Outcome[Shipment]]
) -> None:
    """Logs the labels whose tracking number another live shipment has, for an operator."""
    for answer, outcome in zip(answers, outcomes, strict=True):
        failed = (
            isinstance(outcome, Done) and outcome.record.reason == Reason.TRACKING_NUMBER_IN_USE
        )
        if failed and isinstance(answer, Envelope) and isinstance(answer.command, RecordLabel):
            _log.error(
                "the carrier sold a tracking number twice",
                shipment_id=str(answer.target),
                carrier=answer.actor,
                tracking_number=answer.command.label.tracking_number,
            )
