"""The operations of the shipping service, one method each. An operation calls the carrier between
two writes, never inside one.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.rpc.watch import Watches
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred, Failure, NotFound, OutOfRange, Refused
from chassis.values.paging import Page
from chassis.values.request_context import RequestContext
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.writer import Writer
from shipping_svc import store
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.decisions.refusals import (
    LABEL_REFUSAL_REASONS,
    closed_refusal,
    no_label_refusal,
    refusal,
)
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.commands import (
    CancelShipment,
    CloseFulfillment,
    CloseOrder,
    CloseShipment,
    CreateShipment,
    FailLabel,
    RecordLabel,
    RecordRecallAnswer,
    RecordReport,
    WithdrawShipment,
)
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    ClosedOrders,
    Label,
    RecallOpened,
    Report,
    Shipment,
    ShipmentRequest,
    purchase_key,
)
from shipping_svc.peers import Orders
from shipping_svc.providers import pdf
from shipping_svc.providers.port import Carrier

# Labels that one turn of the sweeper buys: as many as a carrier of ordinary speed sells well before
# they are due again.
SWEEP_BATCH = 50

# The reasons of a refusal to create a shipment whose order or fulfilment is closed.
CLOSED_REASONS = frozenset({"ORDER_CLOSED", "ILLEGAL_TRANSITION"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The times that calls of the carrier may take, and how many run at once.

    `label_timeout_s` is for a whole set of labels, or of recalls, including the wait for a free
    slot. `retry_s` is the pause after the first try that had no answer; it doubles with each try.
    """

    label_timeout_s: float = 5.0
    labels_at_once_max: int = 16
    retry_s: float = 10.0
    heartbeat_s: float = 15.0


class Operations:
    """The operations of the shipping service, which call its peers, its carrier, its decisions and
    its store.
    """

    def __init__(
        self, database: Database, orders: Orders, carrier: Carrier, timeouts: Timeouts = Timeouts()
    ) -> None:
        self.database, self.orders, self.carrier, self.timeouts = (
            database,
            orders,
            carrier,
            timeouts,
        )
        self._writer = Writer(
            database, load=store.lock_shipments, decide=decide, save=store.save_shipments
        )
        self._order_writer = Writer(
            database,
            load=store.lock_closed_orders,
            decide=decide_order,
            save=store.save_closed_orders,
        )
        self._fulfillment_writer = Writer(
            database,
            load=store.lock_closed_fulfillments,
            decide=decide_fulfillment,
            save=store.save_closed_fulfillments,
        )
        self.watches = Watches(self._versions)
        self._carrier_slots = asyncio.Semaphore(timeouts.labels_at_once_max)
        self._label_tries = telemetry.counter(
            "shipping_label_tries_total",
            "Labels that were asked for, by what came of it",
            "outcome",
        )
        self._recall_tries = telemetry.counter(
            "shipping_recall_tries_total",
            "Labels that were asked back for, by what came of it",
            "outcome",
        )
        self._contradictions = telemetry.counter(
            "shipping_reports_after_void_total",
            "Reports of parcels whose label the carrier had confirmed as void: alert on it",
        )
        self._skipped = telemetry.counter(
            "shipping_dead_orders_skipped_total",
            "Fulfilments that were ready when they or their order were dead",
        )
        self._pending_labels = telemetry.reading(
            "shipping_labels_waiting", "Shipments whose label is still to be bought"
        )
        self._oldest_pending_s = telemetry.reading(
            "shipping_labels_waiting_seconds", "How long the oldest of them has been waiting"
        )
        self._open_recalls = telemetry.reading(
            "shipping_recalls_open", "Recalls that the carrier has not answered yet"
        )
        self._oldest_open_s = telemetry.reading(
            "shipping_recalls_open_seconds", "How long the oldest of them has been open"
        )

    async def create_shipment(self, envelope: Envelope[ShipmentRequest]) -> Shipment:
        """The fulfilment's shipment, with its label. Where the label cannot be bought now the
        shipment stays pending, for the sweeper.
        """
        [outcome] = await self._create_pending([envelope])
        shipment = unwrap(outcome)
        if shipment.status is Status.PENDING:
            [outcome] = await self._buy_labels([shipment])
            shipment = unwrap(outcome)
        if refused := refusal(shipment, cjk_installed=pdf.is_cjk_installed()):
            raise refused
        if shipment.status is Status.PENDING:
            text = "It was packed anew meanwhile, and its label is still to be bought."
            raise Deferred("CONTENTION", text, shipment_id=str(shipment.id))
        return shipment

    async def find_missing_orders(self, order_ids: Collection[UUID]) -> dict[UUID, Failure]:
        """The failures of the events of these orders: the order service does not have the order, or
        does not answer. One call checks those of which shipping has stored nothing.
        """
        async with self.database.read() as connection:
            new = (
                set(order_ids) - await store.find_known_orders(connection, order_ids)
                if order_ids
                else set()
            )
        if not new:
            return {}
        try:
            existing = await self.orders.find_existing(new)
        except Deferred as deferred:
            return dict.fromkeys(new, deferred)
        return {
            id: NotFound("ORDER_NOT_FOUND", f"There is no order {id}.", order_id=str(id))
            for id in new - existing
        }

    async def create_shipments(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> Sequence[Outcome[Any]]:
        """Creates the shipments of these events. An event is done once its pending shipment is
        stored; the sweeper buys the labels that this operation did not get.
        """
        outcomes = await self._create_pending(envelopes)
        created = {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }
        await self._buy_labels(
            [shipment for shipment in created.values() if shipment.status is Status.PENDING]
        )
        return [
            self._skip_closed()
            if isinstance(outcome, Refused) and outcome.reason in CLOSED_REASONS
            else outcome
            for outcome in outcomes
        ]

    async def buy_pending_labels(self) -> None:
        """Buys the labels that a call, an event or an earlier turn did not get, because of a crash
        or a carrier without an answer. Several replicas may run this at once.
        """
        with telemetry.reading_of(self._pending_labels, self._oldest_pending_s):
            await self._buy_due_labels()
            async with self.database.read() as connection:
                pending, oldest_s = await store.count_pending_labels(connection)
        self._pending_labels.set(pending)
        self._oldest_pending_s.set(oldest_s)

    async def _buy_due_labels(self) -> None:
        count = SWEEP_BATCH
        while count == SWEEP_BATCH:
            with deferring_outages():
                async with self.database.engine.begin() as connection:
                    ids = await store.start_due_label_tries(
                        connection, self.timeouts.retry_s, SWEEP_BATCH
                    )
            count = len(ids)
            found = await self._find(ids) if ids else {}
            pending = [shipment for shipment in found.values() if shipment.status is Status.PENDING]
            # A label that hangs holds a slot: a random order does not block always the same ones.
            random.shuffle(pending)
            await self._buy_labels(pending)

    async def cancel_shipment(self, envelope: Envelope[CancelShipment]) -> Shipment:
        """The recalled shipment. Where the carrier does not answer, the sweeper asks it again."""
        [outcome] = await self._write([envelope])
        shipment = unwrap(outcome)
        return (await self._request_recalls_of([shipment.id])).get(shipment.id, shipment)

    async def close_orders(
        self,
        envelopes: Sequence[Envelope[CloseOrder]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these orders are closed: their shipments are recalled, and no more created.

        This operation reads shipments after it has committed the closed order, and `_buy` reads
        closed orders after the shipment is committed: of both at the same time one finds the other.
        A label that is sold meanwhile waits for the shipment's lock, or finds a shipment that has
        failed.
        """
        stored = await self._order_writer.write(envelopes)
        crash_points.point("shipping.buried")
        async with self.database.read() as connection:
            found = await store.find_open_shipments(
                connection, order_ids={each.target for each in envelopes}
            )
        closings = [
            [
                _close_shipment(each, shipment.id, Reason.ORDER_CLOSED)
                for shipment in found
                if shipment.order_id == each.target and shipment.attempt <= each.command.attempt
            ]
            for each in envelopes
        ]
        return await self._close_shipments(stored, closings)

    async def close_fulfillments(
        self,
        envelopes: Sequence[Envelope[CloseFulfillment]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these fulfilments are cancelled, as `close_orders` does for orders.

        The parcels of a fulfilment that was cancelled while the carrier sold its label stay in the
        warehouse.
        """
        async with self.database.read() as connection:
            versions = await store.find_fulfillments(
                connection, {each.target for each in envelopes}
            )
        stored = await self._fulfillment_writer.write(
            [
                each.with_command(
                    replace(each.command, stored_version=versions.get(each.target, 0))
                )
                for each in envelopes
            ]
        )
        async with self.database.read() as connection:
            found = await store.find_open_shipments(
                connection, fulfillment_ids={each.target for each in envelopes}
            )
        closings = [
            [
                _close_shipment(each, shipment.id, Reason.FULFILLMENT_CANCELLED)
                for shipment in found
                if shipment.fulfillment_id == each.target
            ]
            for each in envelopes
        ]
        return await self._close_shipments(stored, closings)

    async def withdraw_shipments(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> Sequence[Outcome[Any]]:
        """Withdraws the parcels of these fulfilments before they leave.

        An event of the shipment has the answer. So a fulfilment without a shipment gets one first,
        and a later event of the fulfilment finds it withdrawn. An event that the write refuses
        creates no shipment.
        """
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            versions = await store.find_fulfillments(
                connection, {each.command.fulfillment_id for each in envelopes}
            )
        creations = [
            self._creation(each.step("known", each.command), uuid7(), versions)
            for each, refusal in zip(envelopes, refusals, strict=True)
            if refusal is None
        ]
        shipments = iter(await self._write(creations))
        created = [refusal or next(shipments) for refusal in refusals]
        withdrawals = [
            replace(
                each.with_command(WithdrawShipment(version=each.command.fulfillment_version)),
                target=outcome.record.id,
            )
            for each, outcome in zip(envelopes, created, strict=True)
            if isinstance(outcome, Done)
        ]
        withdrawn = await self._write_by_key(withdrawals)
        await self._request_recalls_of(
            {each.target for each in withdrawals if isinstance(withdrawn[each.key], Done)}
        )
        return [
            outcome if isinstance(outcome, Failure) else withdrawn[each.key]
            for each, outcome in zip(envelopes, created, strict=True)
        ]

    async def _close_shipments(
        self,
        stored: Sequence[Outcome[Any]],
        closings: Sequence[Sequence[Envelope[CloseShipment]]],
    ) -> Sequence[Outcome[Any]]:
        """Closes the shipments of each order or fulfilment that was stored, now or before.

        A refused command closes none. Where a shipment fails to close, its command fails, and its
        event is delivered again.
        """
        closings = [
            several if isinstance(outcome, Done) else ()
            for outcome, several in zip(stored, closings, strict=True)
        ]
        envelopes = [each for several in closings for each in several]
        closed = await self._write_by_key(envelopes)
        await self._request_recalls_of({each.target for each in envelopes})
        failures = [
            [f for each in several if isinstance(f := closed[each.key], Failure)]
            for several in closings
        ]
        return [
            next(iter(failed), outcome) for failed, outcome in zip(failures, stored, strict=True)
        ]

    async def retry_open_recalls(self) -> None:
        """Requests again the recalls that the carrier has not answered. Several replicas may run
        this at once.
        """
        with telemetry.reading_of(self._open_recalls, self._oldest_open_s):
            await self._retry_due_recalls()
            async with self.database.read() as connection:
                count, oldest_s = await store.count_open_recalls(connection)
        self._open_recalls.set(count)
        self._oldest_open_s.set(oldest_s)

    async def _retry_due_recalls(self) -> None:
        count = SWEEP_BATCH
        while count == SWEEP_BATCH:
            with deferring_outages():
                async with self.database.engine.begin() as connection:
                    due = await store.start_due_recall_tries(
                        connection, self.timeouts.retry_s, SWEEP_BATCH
                    )
            count = len(due)
            await self._request_recalls(due)

    async def record_report(
        self, context: RequestContext, carrier: str, tracking_number: str, report: Report
    ) -> Shipment:
        """The shipment of this tracking number, the live one or the latest, with the carrier's
        report.
        """
        async with self.database.read() as connection:
            shipment_id = await store.find_reported(
                connection, carrier, tracking_number, report.carrier_event_id
            )
        if shipment_id is None:
            text = f"No shipment of {carrier} has the tracking number {tracking_number}."
            raise NotFound(
                "SHIPMENT_NOT_FOUND", text, carrier=carrier, tracking_number=tracking_number
            )
        envelope = Envelope.of_request(
            context,
            RecordReport(report=report),
            target=shipment_id,
            actor=carrier,
            cause=report.carrier_event_id,
        )
        [outcome] = await self._write([envelope])
        shipment = unwrap(outcome)
        if (
            shipment.status is Status.VOIDED
            and isinstance(outcome, Done)
            and not outcome.repeat
            and not outcome.skipped
        ):
            self._contradictions.inc()
            _log.error(
                "a parcel was reported whose label is void",
                shipment_id=str(shipment.id),
                status=report.status,
            )
        return shipment

    async def get_shipment(self, shipment_id: UUID) -> Shipment:
        found = await self._find([shipment_id])
        if shipment_id not in found:
            raise NotFound(
                "SHIPMENT_NOT_FOUND",
                f"There is no shipment {shipment_id}.",
                shipment_id=str(shipment_id),
            )
        return found[shipment_id]

    async def list_shipments(self, query: ShipmentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await store.list_shipments(connection, query, page),
                lambda shipment: (shipment.id,),
            )

    async def get_label(self, shipment_id: UUID) -> Label:
        async with self.database.read() as connection:
            label = await store.find_label(connection, shipment_id)
        if label is None:
            raise no_label_refusal(await self.get_shipment(shipment_id))
        return label

    async def list_tracking_events(
        self, shipment_id: UUID, page: Page
    ) -> tuple[Sequence[Any], str]:
        """A page of what the carrier reported: `page.encode` gets each report with the carrier."""
        shipment = await self.get_shipment(shipment_id)
        async with self.database.read() as connection:
            rows = await store.list_tracking_events(connection, shipment_id, page)
        return page.cut([(row, shipment.carrier) for row in rows], lambda row: (row[0].sequence,))

    async def list_transitions(self, shipment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of the shipment's history, oldest first. Raises NotFound SHIPMENT_NOT_FOUND."""
        await self.get_shipment(shipment_id)
        async with self.database.read() as connection:
            rows = await store.list_history(connection, shipment_id, page)
        return page.cut(rows, lambda step: (step.version,))

    async def watch_shipment(
        self, shipment_id: UUID, after: int
    ) -> AsyncGenerator[tuple[Shipment | datetime, int], None]:
        """The shipment, if its version is above `after`, then after each change, up to its end;
        the time as a heartbeat. Each comes with the version that was sent last.
        """
        async with self.watches.changes(shipment_id) as changed:
            sent = after
            while True:
                changed.clear()
                shipment = await self.get_shipment(shipment_id)
                if shipment.version < sent:
                    raise OutOfRange(
                        "WATCH_TOKEN_EXPIRED",
                        "The resume_token is not of this shipment's life. Watch again without it.",
                    )
                if shipment.version > sent:
                    sent = shipment.version
                    yield shipment, sent
                if shipment.status in TERMINAL:
                    return
                try:
                    async with asyncio.timeout(self.timeouts.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), sent

    async def _create_pending(
        self, envelopes: Sequence[Envelope[ShipmentRequest]]
    ) -> list[Outcome[Shipment]]:
        """Stores pending shipments, but none for a closed order or fulfilment.

        The second request for a fulfilment finds the shipment of the first.
        """
        fulfillment_ids = {each.command.fulfillment_id for each in envelopes}
        order_ids = {each.command.order_id for each in envelopes}
        async with self.database.read() as connection:
            versions = await store.find_fulfillments(connection, fulfillment_ids)
            closed = await store.find_closed(connection, order_ids, fulfillment_ids)
        ids: dict[UUID, UUID] = {}
        outcomes = await self._write_by_key(
            [
                self._creation(each, ids.setdefault(each.command.fulfillment_id, uuid7()), versions)
                for each in envelopes
                if each.command.fulfillment_id in versions or not closed.reason(each.command)
            ]
        )
        crash_points.point("shipping.asked")
        return [
            outcomes.get(each.key)
            or closed_refusal(each.command, closed.reason(each.command) or Reason.ORDER_CLOSED)
            for each in envelopes
        ]

    def _creation(
        self,
        envelope: Envelope[ShipmentRequest],
        id: UUID,
        versions: Mapping[UUID, int],
    ) -> Envelope[CreateShipment]:
        """The command that creates the shipment of the request; `id` is proposed for it.

        `versions` has the highest version of each fulfilment that has a shipment.
        """
        request = envelope.command
        version = versions.get(request.fulfillment_id, 0)
        command = CreateShipment(request=request, carrier=self.carrier.name, stored_version=version)
        return replace(envelope.with_command(command), target=id)

    async def _buy_labels(self, shipments: Sequence[Shipment]) -> list[Outcome[Shipment]]:
        """Buys the labels of pending shipments: calls the carrier for all of them at once, then
        stores its answers in one write.
        """
        if not shipments:
            return []
        # Read after the pending shipments are committed: of a closing and a creation at the same
        # time, one sees the other.
        async with self.database.read() as connection:
            closed = await store.find_closed(
                connection,
                {shipment.order_id for shipment in shipments},
                {shipment.fulfillment_id for shipment in shipments},
            )
        answers = await asyncio.gather(
            *(self._request_label(shipment, closed) for shipment in shipments)
        )
        crash_points.point("shipping.bought")
        written = await self._write_by_key(
            [answer for answer in answers if not isinstance(answer, Failure)]
        )
        outcomes = [
            answer if isinstance(answer, Failure) else written[answer.key] for answer in answers
        ]
        _log_defects(
            "a label could not be bought, by a defect of ours",
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
        """The command that settles a pending shipment, by what its order and its carrier say.

        A failure where neither settles it yet: the shipment stays pending.
        """
        key = purchase_key(shipment.id, shipment.purchase)  # one purchase has one result
        purchase = Envelope(
            key=key,
            request_hash=b"",
            target=shipment.id,
            actor=self.carrier.name,
            cause=key,
            command=None,
        )
        if reason := closed.reason(shipment):
            self._label_tries.labels(reason.lower()).inc()
            # A key of its own: a purchase that another replica has stored is not a repeat of this.
            return purchase.step("closed", FailLabel(reason=reason))
        try:
            async with asyncio.timeout(self.timeouts.label_timeout_s), self._carrier_slots:
                recipient = await self.orders.get_recipient(shipment.order_id)
                label = await self.carrier.buy_label(
                    key, shipment.parcels, recipient, shipment.warehouse_id
                )
        except TimeoutError:
            self._label_tries.labels("timeout").inc()
            return Deferred(
                "DEPENDENCY_UNAVAILABLE",
                f"{self.carrier.name} has not answered in time.",
                peer=self.carrier.name,
            )
        except Failure as failure:
            self._label_tries.labels(failure.reason.lower()).inc()
            if failure.reason in LABEL_REFUSAL_REASONS:
                command = FailLabel(
                    reason=Reason(failure.reason),
                    carrier_code=failure.metadata.get("carrier_code"),
                    purchase=shipment.purchase,
                )
                return purchase.step("refused", command)
            return failure
        # an adapter's bug concerns its own shipment, which stays pending
        except Exception as error:  # noqa: BLE001
            self._label_tries.labels("defect").inc()
            return Defect(error)
        self._label_tries.labels("bought").inc()
        return purchase.with_command(RecordLabel(label=label, purchase=shipment.purchase))

    async def _request_recalls_of(self, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        """Requests the open recalls of these shipments; returns the shipments whose answers are
        stored.
        """
        if not ids:
            return {}
        async with self.database.read() as connection:
            recalls = await store.find_recalls(connection, ids)
        return await self._request_recalls(recalls)

    async def _request_recalls(self, recalls: Sequence[RecallOpened]) -> dict[UUID, Shipment]:
        """Calls the carrier for all of these recalls at once, then stores its answers in one write;
        recalls without an answer stay open.
        """
        if not recalls:
            return {}
        shuffled = random.sample(recalls, len(recalls))  # as in _buy_due_labels
        answers = await asyncio.gather(*map(self._request_recall, shuffled))
        crash_points.point("shipping.recalled")
        outcomes = await self._write([answer for answer in answers if isinstance(answer, Envelope)])
        _log_defects(
            "a label could not be recalled, by a defect of ours",
            [recall.shipment_id for recall in shuffled],
            answers,
        )
        return {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }

    async def _request_recall(self, recall: RecallOpened) -> Envelope[RecordRecallAnswer] | Failure:
        """The command that stores the carrier's answer; a failure where there is none yet."""
        purchase = purchase_key(recall.shipment_id, recall.purchase)
        verb = "recall" if recall.bring_back else "void"
        # A label of a sale whose answer was lost has another key once its number is known: it is
        # recalled once more.
        key = f"{purchase}:{verb}" if recall.tracking_number else f"{purchase}:{verb}:unheard"
        try:
            async with asyncio.timeout(self.timeouts.label_timeout_s), self._carrier_slots:
                answer = await self.carrier.recall(
                    key, purchase, recall.tracking_number, bring_back=recall.bring_back
                )
        except TimeoutError:
            self._recall_tries.labels("timeout").inc()
            return Deferred(
                "DEPENDENCY_UNAVAILABLE",
                f"{self.carrier.name} has not answered in time.",
                peer=self.carrier.name,
            )
        except Failure as failure:
            self._recall_tries.labels(failure.reason.lower()).inc()
            return failure
        # an adapter's bug concerns its own shipment, whose recall stays open
        except Exception as error:  # noqa: BLE001
            self._recall_tries.labels("defect").inc()
            return Defect(error)
        self._recall_tries.labels(answer.value).inc()
        return Envelope(
            # A recall that is opened again after its answer has another time: a key of its own.
            key=f"{key}:{recall.time.isoformat()}",
            request_hash=b"",
            target=recall.shipment_id,
            actor=self.carrier.name,
            cause=key,
            command=RecordRecallAnswer(
                answer=answer,
                purchase=recall.purchase,
                tracking_number=recall.tracking_number,
            ),
        )

    def _skip_closed(self) -> Done[None]:
        """The outcome of an event whose order or fulfilment is closed."""
        self._skipped.inc()
        return Done(None)

    async def _find(self, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        async with self.database.read() as connection:
            return await store.find_shipments(connection, ids)

    async def _versions(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await store.find_versions(connection, ids)

    async def _write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Shipment]]:
        outcomes = await self._writer.write(envelopes)
        self.watches.wake()
        return outcomes

    async def _write_by_key(
        self,
        envelopes: Sequence[Envelope[Any]],
    ) -> dict[str, Outcome[Shipment]]:
        """The outcomes of `_write`, by the envelopes' keys."""
        return dict(
            zip((each.key for each in envelopes), await self._write(envelopes), strict=True)
        )


def _close_shipment(
    envelope: Envelope[Any], shipment_id: UUID, reason: Reason
) -> Envelope[CloseShipment]:
    """A step of the event. Its request hash is empty, because the stored keys have none."""
    step = envelope.step(str(shipment_id), CloseShipment(reason=reason))
    return replace(step, request_hash=b"", target=shipment_id)


def _log_defects(what: str, shipment_ids: Sequence[UUID], outcomes: Sequence[object]) -> None:
    for shipment_id, outcome in zip(shipment_ids, outcomes, strict=True):
        if isinstance(outcome, Defect):
            _log.error(what, shipment_id=str(shipment_id), exc_info=outcome.__cause__)


def _log_duplicate_numbers(
    answers: Sequence[object], outcomes: Sequence[Outcome[Shipment]]
) -> None:
    """Logs the labels whose tracking number another live shipment has: an operator asks the
    carrier about it.
    """
    for answer, outcome in zip(answers, outcomes, strict=True):
        failed = (
            isinstance(outcome, Done) and outcome.record.reason == Reason.TRACKING_NUMBER_IN_USE
        )
        if failed and isinstance(answer, Envelope) and isinstance(answer.command, RecordLabel):
            _log.error(
                "a tracking number was sold twice",
                shipment_id=str(answer.target),
                carrier=answer.actor,
                tracking_number=answer.command.label.tracking_number,
            )
