"""Recalls and withdrawals of parcels, by requests to the carrier."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc.model.commands import CancelShipment, RecordRecallAnswer, WithdrawShipment
from shipping_svc.model.records import RecallOpened, Shipment, ShipmentRequest, purchase_key
from shipping_svc.operations.carrier_calls import CarrierCalls, log_defects
from shipping_svc.operations.creation import creation
from shipping_svc.operations.sweeping import Sweeper
from shipping_svc.operations.writing import write_by_key
from shipping_svc.store.recalls import count_open_recalls, find_recalls, start_due_recall_tries
from shipping_svc.store.shipments import find_fulfillments


class RecallOperations:
    """The recalls and the withdrawals of parcels."""

    def __init__(
        self, database: Database, writer: Writer[Shipment], calls: CarrierCalls, retry_s: float
    ) -> None:
        self.database, self.writer, self.calls = database, writer, calls
        self._recall_tries = telemetry.counter(
            "shipping_recall_tries_total",
            "Requests of recalls, by outcome",
            "outcome",
        )
        self._sweeper = Sweeper(
            database,
            retry_s,
            telemetry.reading(
                "shipping_recalls_open", "Recalls that the carrier has not answered yet"
            ),
            telemetry.reading(
                "shipping_recalls_open_seconds",
                "Time since the oldest unanswered recall was opened",
            ),
        )

    async def cancel_shipment(self, envelope: Envelope[CancelShipment]) -> Shipment:
        """Returns the recalled shipment. The sweeper repeats a recall without an answer."""
        [outcome] = await self.writer.write([envelope])
        shipment = unwrap(outcome)
        return (await self.request_of([shipment.id])).get(shipment.id, shipment)

    async def withdraw_shipments(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> Sequence[Outcome[Any]]:
        """Withdraws the parcels of these fulfilments before they leave.

        An event of the shipment has the answer. So this operation first creates a shipment for a
        fulfilment that has none; a later event of the fulfilment finds it withdrawn. A refused
        event creates no shipment.
        """
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            versions = await find_fulfillments(
                connection, {each.command.fulfillment_id for each in envelopes}
            )
        creations = [
            creation(each.step("create", each.command), uuid7(), versions, self.calls.carrier.name)
            for each, refusal in zip(envelopes, refusals, strict=True)
            if refusal is None
        ]
        shipments = iter(await self.writer.write(creations))
        created = [refusal or next(shipments) for refusal in refusals]
        withdrawals = [
            replace(
                each.with_command(WithdrawShipment(version=each.command.fulfillment_version)),
                target=outcome.record.id,
            )
            for each, outcome in zip(envelopes, created, strict=True)
            if isinstance(outcome, Done)
        ]
        withdrawn = await write_by_key(self.writer, withdrawals)
        await self.request_of(
            {each.target for each in withdrawals if isinstance(withdrawn[each.key], Done)}
        )
        return [
            outcome if isinstance(outcome, Failure) else withdrawn[each.key]
            for each, outcome in zip(envelopes, created, strict=True)
        ]

    async def retry_open_recalls(self) -> None:
        """Requests again the recalls that the carrier has not answered.

        Several replicas may run this at once.
        """
        await self._sweeper.sweep(start_due_recall_tries, self._request_recalls, count_open_recalls)

    async def request_of(self, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        """Requests the open recalls of these shipments.

        Returns the shipments whose answers are stored, by id.
        """
        if not ids:
            return {}
        async with self.database.read() as connection:
            recalls = await find_recalls(connection, ids)
        return await self._request_recalls(recalls)

    async def _request_recalls(self, recalls: Sequence[RecallOpened]) -> dict[UUID, Shipment]:
        """Calls the carrier for all of these recalls at once, then stores its answers in one write.

        Recalls without an answer stay open. Returns the shipments whose answers are stored, by id.
        """
        if not recalls:
            return {}
        shuffled = random.sample(recalls, len(recalls))  # as in LabelOperations._buy_due
        answers = await asyncio.gather(*map(self._request_recall, shuffled))
        crash_points.point("shipping.recall_answered")
        outcomes = await self.writer.write(
            [answer for answer in answers if isinstance(answer, Envelope)]
        )
        log_defects(
            "a label could not be recalled, because of a defect",
            [recall.shipment_id for recall in shuffled],
            answers,
        )
        return {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }

    async def _request_recall(self, recall: RecallOpened) -> Envelope[RecordRecallAnswer] | Failure:
        """Returns the command that stores the carrier's answer; a failure where there is none."""
        purchase = purchase_key(recall.shipment_id, recall.purchase)
        verb = "recall" if recall.bring_back else "void"
        # The recall has another key once the number of the label is stored: then shipping recalls
        # the label once more.
        key = f"{purchase}:{verb}" if recall.tracking_number else f"{purchase}:{verb}:unanswered"
        answer = await self.calls.call(
            partial(
                self.calls.carrier.recall,
                key,
                purchase,
                recall.tracking_number,
                bring_back=recall.bring_back,
            ),
            self._count_try,
        )
        if isinstance(answer, Failure):
            return answer
        self._count_try(answer)
        return Envelope(
            # A recall that is opened again after its answer has another time, and so another key.
            key=f"{key}:{recall.time.isoformat()}",
            request_hash=b"",
            target=recall.shipment_id,
            actor=self.calls.carrier.name,
            cause=key,
            command=RecordRecallAnswer(
                answer=answer,
                purchase=recall.purchase,
                tracking_number=recall.tracking_number,
            ),
        )

    def _count_try(self, outcome: str) -> None:
        self._recall_tries.labels(outcome.lower()).inc()
