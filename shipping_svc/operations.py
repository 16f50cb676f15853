"""What the shipping service does: one method for each thing. The carrier is asked between two
writes, never inside one.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from chassis import crash, telemetry
from chassis.blame import deferring
from chassis.database import Database
from chassis.decision import Done, Outcome, unwrap
from chassis.errors import Defect, Deferred, Failure, NotFound, OutOfRange, Refused
from chassis.idempotency import Keyed
from chassis.paging import Page
from chassis.watch import Watches
from shipping_svc import decisions, store
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model import (
    Ask,
    AskForShipment,
    BuryFulfillment,
    BuryOrder,
    Cancel,
    Close,
    GiveUp,
    Graves,
    KeepLabel,
    KeepRecall,
    Label,
    RecallOpened,
    RecordReport,
    Report,
    Shipment,
    ShipmentCommand,
    ShipmentFilter,
    Withdraw,
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

    async def create_shipment(self, ask: Ask) -> Shipment:
        """The fulfilment's shipment, with its label. Where it cannot be bought just now the
        shipment stays pending, for the sweeper.
        """
        [outcome] = await self._begin([ask])
        shipment = unwrap(outcome)
        if shipment.status is Status.PENDING:
            [outcome] = await self._buy([shipment])
            shipment = unwrap(outcome)
        if refusal := decisions.refusal(shipment, cjk_installed=pdf.is_cjk_installed()):
            raise refusal
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

    async def ship(self, asks: Sequence[Ask]) -> Sequence[Outcome[Any]]:
        """What `create_shipment` does, for the guarantee: done once the intents are stored.
        Labels not bought at once are the sweeper's.
        """
        outcomes = await self._begin(asks)
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

    async def cancel_shipment(self, command: Cancel) -> Shipment:
        """The shipment, wanted back. Where the carrier does not answer just now it is asked
        again by the sweeper.
        """
        [outcome] = await self._write([command])
        shipment = unwrap(outcome)
        return (await self._call_back([shipment.id])).get(shipment.id, shipment)

    async def bury_orders(self, commands: Sequence[BuryOrder]) -> Sequence[Outcome[Any]]:
        """Remembers that these orders are dead: nothing is shipped for them from now on, and what
        is on its way is wanted back.

        Shipments are looked for once the death is committed, and an ask looks for deaths once its
        intent is: of both at the same time one sees the other. A label that is sold meanwhile waits
        for the shipment's lock, or meets a shipment that has failed.
        """
        buried = await self.database.write(
            commands,
            load=store.lock_dead_orders,
            decide=decisions.bury,
            save=store.save_dead_orders,
        )
        crash.point("shipping.buried")
        async with self.database.read() as connection:
            living = await store.find_living(
                connection, order_ids={command.target for command in commands}
            )
        closes = [
            [
                _close(c, its.id, Reason.ORDER_CLOSED)
                for its in living
                if its.order_id == c.target and its.attempt <= c.attempt
            ]
            for c in commands
        ]
        return await self._close(buried, closes)

    async def bury_fulfillments(
        self, commands: Sequence[BuryFulfillment]
    ) -> Sequence[Outcome[Any]]:
        """The same for fulfilments: what was cancelled while its label was being bought stays in
        the warehouse.
        """
        buried = await self.database.write(
            commands,
            load=store.lock_dead_fulfillments,
            decide=decisions.bury_fulfillment,
            save=store.save_dead_fulfillments,
        )
        async with self.database.read() as connection:
            living = await store.find_living(
                connection, fulfillment_ids={command.target for command in commands}
            )
        closes = [
            [
                _close(c, its.id, Reason.FULFILLMENT_CANCELLED)
                for its in living
                if its.fulfillment_id == c.target
            ]
            for c in commands
        ]
        return await self._close(buried, closes)

    async def withdraw(self, asks: Sequence[Ask]) -> Sequence[Outcome[Any]]:
        """These fulfilments want their parcels back before they leave. The answer is an event of
        the shipment; so one of which nothing was heard yet gets one first, and what is heard of
        it later finds that.
        """
        async with self.database.read() as connection:
            stored = await store.find_fulfillments(
                connection, {ask.wanted.fulfillment_id for ask in asks}
            )
        known = await self._write(
            [self._asked(ask, uuid7(), f"{ask.key}:known", stored) for ask in asks]
        )
        withdrawals = [
            Withdraw(
                ask.key,
                ask.digest,
                outcome.record.id,
                ask.actor,
                ask.cause,
                version=ask.wanted.fulfillment_version,
            )
            for ask, outcome in zip(asks, known, strict=True)
            if isinstance(outcome, Done)
        ]
        withdrawn = dict(
            zip(
                (command.key for command in withdrawals),
                await self._write(withdrawals),
                strict=True,
            )
        )
        await self._call_back({command.target for command in withdrawals})
        return [
            outcome if isinstance(outcome, Failure) else withdrawn[ask.key]
            for ask, outcome in zip(asks, known, strict=True)
        ]

    async def _close(
        self, buried: Sequence[Outcome[Any]], closes: Sequence[Sequence[Close]]
    ) -> Sequence[Outcome[Any]]:
        """Wants back what each of the buried has shipped; one that fails of its shipments fails
        its burial, to be heard again.
        """
        wanted = [close for several in closes for close in several]
        closed = dict(zip((close.key for close in wanted), await self._write(wanted), strict=True))
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
        command = RecordReport(
            *(of.key, of.digest, shipment_id, carrier, report.carrier_event_id),
            claimed_actor=of.claimed_actor,
            note=of.note,
            report=report,
        )
        [outcome] = await self._write([command])
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
            raise decisions.no_label(await self.get_shipment(shipment_id))
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

    async def _begin(self, asks: Sequence[Ask]) -> list[Outcome[Shipment]]:
        """Stores the intents, but none for what is dead; the second ask for a fulfilment finds
        the shipment of the first.
        """
        async with self.database.read() as connection:
            fulfillment_ids = {ask.wanted.fulfillment_id for ask in asks}
            known = await store.find_fulfillments(connection, fulfillment_ids)
            graves = await store.find_graves(
                connection, {ask.wanted.order_id for ask in asks}, fulfillment_ids
            )
        ids: dict[UUID, UUID] = {}
        commands = [
            self._asked(ask, ids.setdefault(ask.wanted.fulfillment_id, uuid7()), ask.key, known)
            for ask in asks
            if ask.wanted.fulfillment_id in known or not graves.reason(ask.wanted)
        ]
        outcomes = dict(
            zip((command.key for command in commands), await self._write(commands), strict=True)
        )
        crash.point("shipping.asked")
        return [
            outcomes.get(ask.key)
            or decisions.closed(ask.wanted, graves.reason(ask.wanted) or Reason.ORDER_CLOSED)
            for ask in asks
        ]

    def _asked(self, ask: Ask, id: UUID, key: str, stored: Mapping[UUID, int]) -> AskForShipment:
        """The command for what is wanted; `id` is proposed for its shipment. `stored` has the
        highest version of each fulfilment that has a shipment.
        """
        return AskForShipment(
            *(key, ask.digest, id, ask.actor, ask.cause),
            claimed_actor=ask.claimed_actor,
            note=ask.note,
            wanted=ask.wanted,
            carrier=self.carrier.name,
            stored_version=stored.get(ask.wanted.fulfillment_id, 0),
        )

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
        crash.point("shipping.bought")
        commands = [answer for answer in answers if not isinstance(answer, Failure)]
        written = dict(
            zip((command.key for command in commands), await self._write(commands), strict=True)
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

    async def _answer(self, shipment: Shipment, graves: Graves) -> KeepLabel | GiveUp | Failure:
        """What is to become of a pending shipment, by what its order and its carrier say; a
        failure where that is not known yet.
        """
        key = purchase_key(shipment.id, shipment.purchase)  # one purchase has one result
        of = (key, b"", shipment.id, self.carrier.name, key)
        if reason := graves.reason(shipment):
            self._tries.labels(reason.lower()).inc()
            # Under a key of its own: somebody else's purchase may have gone through, and must not
            # pass for a repeat of this.
            return GiveUp(f"{key}:closed", *of[1:], reason=reason)
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
            if failure.reason in decisions.REFUSALS:
                refused = failure.metadata.get("carrier_code")
                why = Reason(failure.reason)
                return GiveUp(
                    f"{key}:refused",
                    *of[1:],
                    reason=why,
                    carrier_code=refused,
                    purchase=shipment.purchase,
                )
            return failure
        # an adapter's bug concerns its own shipment, which stays pending
        except Exception as error:  # noqa: BLE001
            self._tries.labels("defect").inc()
            return Defect(error)
        self._tries.labels("bought").inc()
        return KeepLabel(*of, label=label, purchase=shipment.purchase)

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
        crash.point("shipping.recalled")
        outcomes = await self._write(
            [answer for answer in answers if isinstance(answer, KeepRecall)]
        )
        _report_defects(
            "a label could not be recalled, by a defect of ours",
            [its.shipment_id for its in in_chance_order],
            answers,
        )
        return {
            outcome.record.id: outcome.record for outcome in outcomes if isinstance(outcome, Done)
        }

    async def _recalled(self, its: RecallOpened) -> KeepRecall | Failure:
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
        # Opened again after it was answered, it is answered again.
        of = (f"{key}:{its.time.isoformat()}", b"", its.shipment_id, self.carrier.name, key)
        return KeepRecall(
            *of, answer=answer, purchase=its.purchase, tracking_number=its.tracking_number
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

    async def _write(self, commands: Sequence[ShipmentCommand]) -> list[Outcome[Shipment]]:
        outcomes = await self.database.write(
            commands, load=store.lock_shipments, decide=decisions.decide, save=store.save_shipments
        )
        self.watches.wake()
        return outcomes


def _close(burial: BuryOrder | BuryFulfillment, shipment_id: UUID, reason: Reason) -> Close:
    return Close(
        f"{burial.key}:{shipment_id}", b"", shipment_id, burial.actor, burial.cause, reason=reason
    )


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
        if failed and isinstance(answer, KeepLabel):
            number = answer.label.tracking_number
            _log.error(
                "a tracking number was sold twice",
                shipment_id=str(answer.target),
                carrier=answer.actor,
                tracking_number=number,
            )
