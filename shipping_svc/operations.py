"""What the shipping service does: one method for each thing. The carrier is asked between two
writes, never inside one.
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
from chassis.values.request_context import Keyed
from chassis.write.database import Database
from chassis.write.error_classification import deferring
from chassis.write.writer import Writer
from shipping_svc import store
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.decisions.refusals import REFUSALS, closed, no_label, refusal
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.commands import (
    AskForShipment,
    BuryFulfillment,
    BuryOrder,
    Cancel,
    Close,
    GiveUp,
    KeepLabel,
    KeepRecall,
    RecordReport,
    Withdraw,
)
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    Graves,
    Label,
    RecallOpened,
    Report,
    Shipment,
    Wanted,
    purchase_key,
)
from shipping_svc.peers import Orders
from shipping_svc.providers import pdf
from shipping_svc.providers.port import Carrier

# Labels that one turn of the sweeper takes on: what a carrier of ordinary speed sells well before
# they are due again.
SWEEP_BATCH = 50

# What the ask for a shipment is refused with when its order is dead, or its fulfilment.
CLOSED = frozenset({"ORDER_CLOSED", "ILLEGAL_TRANSITION"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, and how many at once.

    `label_s` is for a whole set of labels, or of recalls, waiting for a free place included;
    `retry_s` is when one that has told nothing is taken on again, and twice that after the next
    try, and so on.
    """

    label_s: float = 5.0
    labels_max: int = 16
    retry_s: float = 10.0
    heartbeat_s: float = 15.0


class Operations:
    """The shipping service's doors lead here; from here to its peers, its carrier, its decisions
    and its store.
    """

    def __init__(
        self, database: Database, orders: Orders, carrier: Carrier, patience: Patience = Patience()
    ) -> None:
        self.database, self.orders, self.carrier, self.patience = (
            database,
            orders,
            carrier,
            patience,
        )
        self._writer = Writer(
            database, load=store.lock_shipments, decide=decide, save=store.save_shipments
        )
        self._order_writer = Writer(
            database,
            load=store.lock_dead_orders,
            decide=decide_order,
            save=store.save_dead_orders,
        )
        self._fulfillment_writer = Writer(
            database,
            load=store.lock_dead_fulfillments,
            decide=decide_fulfillment,
            save=store.save_dead_fulfillments,
        )
        self.watches = Watches(self._versions)
        self._places = asyncio.Semaphore(patience.labels_max)
        self._tries = telemetry.counter(
            "shipping_label_tries_total",
            "Labels that were asked for, by what came of it",
            "outcome",
        )
        self._recalls = telemetry.counter(
            "shipping_recall_tries_total",
            "Labels that were asked back for, by what came of it",
            "outcome",
        )
        self._contradictions = telemetry.counter(
            "shipping_reports_after_void_total",
            "Reports of parcels whose label the carrier had confirmed as void: alert on it",
        )
        self._closed = telemetry.counter(
            "shipping_dead_orders_skipped_total",
            "Fulfilments that were ready when they or their order were dead",
        )
        self._waiting = telemetry.reading(
            "shipping_labels_waiting", "Shipments whose label is still to be bought"
        )
        self._oldest = telemetry.reading(
            "shipping_labels_waiting_seconds", "How long the oldest of them has been waiting"
        )
        self._open = telemetry.reading(
            "shipping_recalls_open", "Recalls that the carrier has not answered yet"
        )
        self._open_s = telemetry.reading(
            "shipping_recalls_open_seconds", "How long the oldest of them has been open"
        )

    async def create_shipment(self, envelope: Envelope[Wanted]) -> Shipment:
        """The fulfilment's shipment, with its label. Where it cannot be bought just now the
        shipment stays pending, for the sweeper.
        """
        [outcome] = await self._begin([envelope])
        shipment = unwrap(outcome)
        if shipment.status is Status.PENDING:
            [outcome] = await self._buy([shipment])
            shipment = unwrap(outcome)
        if refused := refusal(shipment, cjk_installed=pdf.is_cjk_installed()):
            raise refused
        if shipment.status is Status.PENDING:
            text = "It was packed anew meanwhile, and its label is still to be bought."
            raise Deferred("CONTENTION", text, shipment_id=str(shipment.id))
        return shipment

    async def unknown_orders(self, order_ids: Collection[UUID]) -> dict[UUID, Failure]:
        """Why nothing may be stored of these orders for another service's word alone: the order
        service does not have them, or does not answer. It is asked in one call, about those of
        which nothing is stored here.
        """
        async with self.database.read() as connection:
            new = (
                set(order_ids) - await store.find_orders(connection, order_ids)
                if order_ids
                else set()
            )
        if not new:
            return {}
        try:
            existing = await self.orders.existing(new)
        except Deferred as deferred:
            return dict.fromkeys(new, deferred)
        return {
            id: NotFound("ORDER_NOT_FOUND", f"There is no order {id}.", order_id=str(id))
            for id in new - existing
        }

    async def ship(self, envelopes: Sequence[Envelope[Wanted]]) -> Sequence[Outcome[Any]]:
        """What `create_shipment` does, for the guarantee: done once the intents are stored.
        Labels not bought at once are the sweeper's.
        """
        outcomes = await self._begin(envelopes)
        begun = {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }
        await self._buy(
            [shipment for shipment in begun.values() if shipment.status is Status.PENDING]
        )
        return [
            self._skip() if isinstance(outcome, Refused) and outcome.reason in CLOSED else outcome
            for outcome in outcomes
        ]

    async def buy_waiting_labels(self) -> None:
        """Goes on where a call, an event or an earlier turn has stopped: crashed, or without an
        answer. For several replicas at once.
        """
        with telemetry.reading_of(self._waiting, self._oldest):
            await self._buy_due_labels()
            async with self.database.read() as connection:
                waiting, oldest_s = await store.waiting_labels(connection)
        self._waiting.set(waiting)
        self._oldest.set(oldest_s)

    async def _buy_due_labels(self) -> None:
        taken = SWEEP_BATCH
        while taken == SWEEP_BATCH:
            with deferring():
                async with self.database.engine.begin() as connection:
                    ids = await store.begin_tries_due(
                        connection, self.patience.retry_s, SWEEP_BATCH
                    )
            taken = len(ids)
            found = await self._found(ids) if ids else {}
            pending = [shipment for shipment in found.values() if shipment.status is Status.PENDING]
            # those that hang take the places of others: not always of the same
            random.shuffle(pending)
            await self._buy(pending)

    async def cancel_shipment(self, envelope: Envelope[Cancel]) -> Shipment:
        """The shipment, wanted back. Where the carrier does not answer just now it is asked
        again by the sweeper.
        """
        [outcome] = await self._write([envelope])
        shipment = unwrap(outcome)
        return (await self._call_back([shipment.id])).get(shipment.id, shipment)

    async def bury_orders(
        self,
        envelopes: Sequence[Envelope[BuryOrder]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these orders are closed: their shipments are recalled, and no more created.

        This operation reads shipments after it has committed the closed order, and `_buy` reads
        closed orders after the shipment is committed: of both at the same time one finds the other.
        A label that is sold meanwhile waits for the shipment's lock, or meets a shipment that has
        failed.
        """
        buried = await self._order_writer.write(envelopes)
        crash_points.point("shipping.buried")
        async with self.database.read() as connection:
            living = await store.find_living(
                connection, order_ids={each.target for each in envelopes}
            )
        closes = [
            [
                _close(each, its.id, Reason.ORDER_CLOSED)
                for its in living
                if its.order_id == each.target and its.attempt <= each.command.attempt
            ]
            for each in envelopes
        ]
        return await self._close(buried, closes)

    async def bury_fulfillments(
        self,
        envelopes: Sequence[Envelope[BuryFulfillment]],
    ) -> Sequence[Outcome[Any]]:
        """Stores that these fulfilments are cancelled, as `bury_orders` does for orders.

        What was cancelled while the carrier sold its label stays in the warehouse.
        """
        async with self.database.read() as connection:
            stored = await store.find_fulfillments(connection, {each.target for each in envelopes})
        buried = await self._fulfillment_writer.write(
            [
                each.with_command(replace(each.command, stored_version=stored.get(each.target, 0)))
                for each in envelopes
            ]
        )
        async with self.database.read() as connection:
            living = await store.find_living(
                connection, fulfillment_ids={each.target for each in envelopes}
            )
        closes = [
            [
                _close(each, its.id, Reason.FULFILLMENT_CANCELLED)
                for its in living
                if its.fulfillment_id == each.target
            ]
            for each in envelopes
        ]
        return await self._close(buried, closes)

    async def withdraw(self, envelopes: Sequence[Envelope[Wanted]]) -> Sequence[Outcome[Any]]:
        """Withdraws the parcels of these fulfilments before they leave.

        An event of the shipment has the answer. So a fulfilment without a shipment gets one first,
        and an event of the fulfilment that arrives later finds it withdrawn. An event that the
        write refuses makes no shipment.
        """
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            stored = await store.find_fulfillments(
                connection, {each.command.fulfillment_id for each in envelopes}
            )
        first = [
            self._asked(each.step("known", each.command), uuid7(), stored)
            for each, refusal in zip(envelopes, refusals, strict=True)
            if refusal is None
        ]
        shipments = iter(await self._write(first))
        known = [refusal or next(shipments) for refusal in refusals]
        withdrawals = [
            replace(
                each.with_command(Withdraw(version=each.command.fulfillment_version)),
                target=outcome.record.id,
            )
            for each, outcome in zip(envelopes, known, strict=True)
            if isinstance(outcome, Done)
        ]
        withdrawn = await self._write_by_key(withdrawals)
        await self._call_back(
            {each.target for each in withdrawals if isinstance(withdrawn[each.key], Done)}
        )
        return [
            outcome if isinstance(outcome, Failure) else withdrawn[each.key]
            for each, outcome in zip(envelopes, known, strict=True)
        ]

    async def _close(
        self, buried: Sequence[Outcome[Any]], closes: Sequence[Sequence[Envelope[Close]]]
    ) -> Sequence[Outcome[Any]]:
        """Closes the shipments of each order or fulfilment that was stored, now or before.

        A refused command closes none. Where a shipment fails to close, its command fails, and its
        event comes again.
        """
        closes = [
            several if isinstance(outcome, Done) else ()
            for outcome, several in zip(buried, closes, strict=True)
        ]
        wanted = [close for several in closes for close in several]
        closed = await self._write_by_key(wanted)
        await self._call_back({close.target for close in wanted})
        failures = [
            [f for close in several if isinstance(f := closed[close.key], Failure)]
            for several in closes
        ]
        return [
            next(iter(failed), outcome) for failed, outcome in zip(failures, buried, strict=True)
        ]

    async def ask_for_open_recalls(self) -> None:
        """Goes on with what the carrier was to be asked for and has not answered. For several
        replicas at once.
        """
        with telemetry.reading_of(self._open, self._open_s):
            await self._ask_for_due_recalls()
            async with self.database.read() as connection:
                count, oldest_s = await store.open_recalls(connection)
        self._open.set(count)
        self._open_s.set(oldest_s)

    async def _ask_for_due_recalls(self) -> None:
        taken = SWEEP_BATCH
        while taken == SWEEP_BATCH:
            with deferring():
                async with self.database.engine.begin() as connection:
                    due = await store.begin_recalls_due(
                        connection, self.patience.retry_s, SWEEP_BATCH
                    )
            taken = len(due)
            await self._ask_back(due)

    async def record_report(
        self, of: Keyed, carrier: str, tracking_number: str, report: Report
    ) -> Shipment:
        """What the carrier reports of the shipment that it calls so: the live one, or the
        latest.
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
            of,
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
        found = await self._found([shipment_id])
        if shipment_id not in found:
            raise NotFound(
                "SHIPMENT_NOT_FOUND",
                f"There is no shipment {shipment_id}.",
                shipment_id=str(shipment_id),
            )
        return found[shipment_id]

    async def list_shipments(self, wanted: ShipmentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await store.list_shipments(connection, wanted, page),
                lambda shipment: (shipment.id,),
            )

    async def get_label(self, shipment_id: UUID) -> Label:
        async with self.database.read() as connection:
            label = await store.find_label(connection, shipment_id)
        if label is None:
            raise no_label(await self.get_shipment(shipment_id))
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
        """The shipment as it stands if it is beyond version `after`, then whenever it changed,
        up to its end; the time when nothing happens. Each with the version that was told last.
        """
        async with self.watches.changes(shipment_id) as changed:
            told = after
            while True:
                changed.clear()
                shipment = await self.get_shipment(shipment_id)
                if shipment.version < told:
                    raise OutOfRange(
                        "WATCH_TOKEN_EXPIRED",
                        "The resume_token is not of this shipment's life. Watch again without it.",
                    )
                if shipment.version > told:
                    told = shipment.version
                    yield shipment, told
                if shipment.status in TERMINAL:
                    return
                try:
                    async with asyncio.timeout(self.patience.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield datetime.now(UTC), told

    async def _begin(self, envelopes: Sequence[Envelope[Wanted]]) -> list[Outcome[Shipment]]:
        """Stores pending shipments, but none for a closed order or fulfilment.

        The second request for a fulfilment finds the shipment of the first.
        """
        fulfillment_ids = {each.command.fulfillment_id for each in envelopes}
        order_ids = {each.command.order_id for each in envelopes}
        async with self.database.read() as connection:
            known = await store.find_fulfillments(connection, fulfillment_ids)
            graves = await store.find_graves(connection, order_ids, fulfillment_ids)
        ids: dict[UUID, UUID] = {}
        outcomes = await self._write_by_key(
            [
                self._asked(each, ids.setdefault(each.command.fulfillment_id, uuid7()), known)
                for each in envelopes
                if each.command.fulfillment_id in known or not graves.reason(each.command)
            ]
        )
        crash_points.point("shipping.asked")
        return [
            outcomes.get(each.key)
            or closed(each.command, graves.reason(each.command) or Reason.ORDER_CLOSED)
            for each in envelopes
        ]

    def _asked(
        self,
        envelope: Envelope[Wanted],
        id: UUID,
        stored: Mapping[UUID, int],
    ) -> Envelope[AskForShipment]:
        """The command for what is wanted; `id` is proposed for its shipment.

        `stored` has the highest version of each fulfilment that has a shipment.
        """
        wanted = envelope.command
        version = stored.get(wanted.fulfillment_id, 0)
        ask = AskForShipment(wanted=wanted, carrier=self.carrier.name, stored_version=version)
        return replace(envelope.with_command(ask), target=id)

    async def _buy(self, shipments: Sequence[Shipment]) -> list[Outcome[Shipment]]:
        """Settles pending shipments: the carrier's answers are asked for all at once, then
        stored in one write.
        """
        if not shipments:
            return []
        # Looked up after the intents were committed: of a death and an ask at the same time, one
        # sees the other.
        async with self.database.read() as connection:
            graves = await store.find_graves(
                connection,
                {its.order_id for its in shipments},
                {its.fulfillment_id for its in shipments},
            )
        answers = await asyncio.gather(*(self._answer(shipment, graves) for shipment in shipments))
        crash_points.point("shipping.bought")
        written = await self._write_by_key(
            [answer for answer in answers if not isinstance(answer, Failure)]
        )
        outcomes = [
            answer if isinstance(answer, Failure) else written[answer.key] for answer in answers
        ]
        _report_defects(
            "a label could not be bought, by a defect of ours",
            [shipment.id for shipment in shipments],
            outcomes,
        )
        _report_clashes(answers, outcomes)
        return outcomes

    async def _answer(
        self,
        shipment: Shipment,
        graves: Graves,
    ) -> Envelope[KeepLabel | GiveUp] | Failure:
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
        if reason := graves.reason(shipment):
            self._tries.labels(reason.lower()).inc()
            # Under a key of its own: another replica's purchase may have gone through, and must
            # not pass for a repeat of this.
            return purchase.step("closed", GiveUp(reason=reason))
        try:
            async with asyncio.timeout(self.patience.label_s), self._places:
                recipient = await self.orders.recipient(shipment.order_id)
                label = await self.carrier.buy_label(
                    key, shipment.parcels, recipient, shipment.warehouse_id
                )
        except TimeoutError:
            self._tries.labels("timeout").inc()
            return Deferred(
                "DEPENDENCY_UNAVAILABLE",
                f"{self.carrier.name} has not answered in time.",
                peer=self.carrier.name,
            )
        except Failure as failure:
            self._tries.labels(failure.reason.lower()).inc()
            if failure.reason in REFUSALS:
                give_up = GiveUp(
                    reason=Reason(failure.reason),
                    carrier_code=failure.metadata.get("carrier_code"),
                    purchase=shipment.purchase,
                )
                return purchase.step("refused", give_up)
            return failure
        # an adapter's bug concerns its own shipment, which stays pending
        except Exception as error:  # noqa: BLE001
            self._tries.labels("defect").inc()
            return Defect(error)
        self._tries.labels("bought").inc()
        return purchase.with_command(KeepLabel(label=label, purchase=shipment.purchase))

    async def _call_back(self, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        """Asks the carrier at once for what is wanted back of these shipments; those that its
        answer was stored for.
        """
        if not ids:
            return {}
        async with self.database.read() as connection:
            wanted = await store.find_recalls(connection, ids)
        return await self._ask_back(wanted)

    async def _ask_back(self, wanted: Sequence[RecallOpened]) -> dict[UUID, Shipment]:
        """The carrier's answers are asked for all at once, then stored in one write; recalls
        without an answer stay open.
        """
        if not wanted:
            return {}
        in_chance_order = random.sample(wanted, len(wanted))  # as in buy_waiting_labels
        answers = await asyncio.gather(*map(self._recalled, in_chance_order))
        crash_points.point("shipping.recalled")
        outcomes = await self._write([answer for answer in answers if isinstance(answer, Envelope)])
        _report_defects(
            "a label could not be recalled, by a defect of ours",
            [its.shipment_id for its in in_chance_order],
            answers,
        )
        return {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }

    async def _recalled(self, its: RecallOpened) -> Envelope[KeepRecall] | Failure:
        """What the carrier says; a failure where that is not known yet."""
        purchase = purchase_key(its.shipment_id, its.purchase)
        verb = "recall" if its.bring_back else "void"
        # What was sold unheard of, and heard of after all, is recalled once more.
        key = f"{purchase}:{verb}" if its.tracking_number else f"{purchase}:{verb}:unheard"
        try:
            async with asyncio.timeout(self.patience.label_s), self._places:
                answer = await self.carrier.recall(
                    key, purchase, its.tracking_number, bring_back=its.bring_back
                )
        except TimeoutError:
            self._recalls.labels("timeout").inc()
            return Deferred(
                "DEPENDENCY_UNAVAILABLE",
                f"{self.carrier.name} has not answered in time.",
                peer=self.carrier.name,
            )
        except Failure as failure:
            self._recalls.labels(failure.reason.lower()).inc()
            return failure
        # an adapter's bug concerns its own shipment, whose recall stays open
        except Exception as error:  # noqa: BLE001
            self._recalls.labels("defect").inc()
            return Defect(error)
        self._recalls.labels(answer.value).inc()
        return Envelope(
            # Opened again after it was answered, it is answered again.
            key=f"{key}:{its.time.isoformat()}",
            request_hash=b"",
            target=its.shipment_id,
            actor=self.carrier.name,
            cause=key,
            command=KeepRecall(
                answer=answer,
                purchase=its.purchase,
                tracking_number=its.tracking_number,
            ),
        )

    def _skip(self) -> Done[None]:
        """The answer to an event that comes too late to matter."""
        self._closed.inc()
        return Done(None)

    async def _found(self, ids: Collection[UUID]) -> dict[UUID, Shipment]:
        async with self.database.read() as connection:
            return await store.find_shipments(connection, ids)

    async def _versions(self, ids: Collection[UUID]) -> dict[UUID, int]:
        async with self.database.read() as connection:
            return await store.versions(connection, ids)

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


def _close(burial: Envelope[Any], shipment_id: UUID, reason: Reason) -> Envelope[Close]:
    """A step of the event. Its request hash is empty, because the stored keys have none."""
    close = burial.step(str(shipment_id), Close(reason=reason))
    return replace(close, request_hash=b"", target=shipment_id)


def _report_defects(what: str, shipment_ids: Sequence[UUID], outcomes: Sequence[object]) -> None:
    for shipment_id, outcome in zip(shipment_ids, outcomes, strict=True):
        if isinstance(outcome, Defect):
            _log.error(what, shipment_id=str(shipment_id), exc_info=outcome.__cause__)


def _report_clashes(answers: Sequence[object], outcomes: Sequence[Outcome[Shipment]]) -> None:
    """Logs the labels whose tracking number another live shipment has: the carrier has to be
    asked about it.
    """
    for answer, outcome in zip(answers, outcomes, strict=True):
        failed = (
            isinstance(outcome, Done) and outcome.record.reason == Reason.TRACKING_NUMBER_IN_USE
        )
        if failed and isinstance(answer, Envelope) and isinstance(answer.command, KeepLabel):
            _log.error(
                "a tracking number was sold twice",
                shipment_id=str(answer.target),
                carrier=answer.actor,
                tracking_number=answer.command.label.tracking_number,
            )
