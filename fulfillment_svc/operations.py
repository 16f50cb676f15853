"""The operations of the fulfilment service, a method each. They ask the warehouse before the write,
once for the whole set.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final
from uuid import UUID, uuid5

import structlog
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred, Failure, NotFound
from chassis.values.paging import Page
from chassis.values.versions import is_jump
from chassis.write.database import Database
from chassis.write.writer import Writer
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.decisions.steps import require_version
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import (
    CloseAttempt,
    CommitAnswer,
    Committed,
    Cut,
    NotCommitted,
    OrderCommand,
    OrderEvent,
    OrderEventKind,
    Picklist,
    Plan,
    RecordCommit,
    RecordInspection,
    RecordSpoiled,
    Request,
    ShipmentCommand,
)
from fulfillment_svc.model.inspection import InspectionPolicy
from fulfillment_svc.model.records import (
    Allocation,
    Filter,
    Fulfillment,
    FulfillmentKey,
    OrderAttempt,
    OrderFulfillments,
    RemainingUnits,
    SpoiledLine,
)
from fulfillment_svc.peers import Shipping, Warehouse
from fulfillment_svc.store.fulfillments import (
    find_commit_pending,
    find_fulfillments,
    find_keys,
    list_fulfillments,
    list_history,
)
from fulfillment_svc.store.orders import find_versions
from fulfillment_svc.store.workspace import lock_order_fulfillments, save_order_fulfillments

# As many orders as the warehouse takes in one call. More are planned with their commit pending, and
# the worker asks for them.
CONFIRM_MAX: Final = 500
FIRST: Final = UUID(int=0)

_log = structlog.get_logger(__name__)


class Operations:
    """The operations of the RPCs, consumers and workers, over peers, decisions and store."""

    def __init__(
        self,
        database: Database,
        warehouse: Warehouse,
        shipping: Shipping,
        inspection: InspectionPolicy,
        *,
        commit_batch: int = 100,
    ) -> None:
        """`commit_batch`: about how many fulfilments at once the warehouse is asked again;
        CONFIRM_MAX at most.
        """
        self.database, self.warehouse, self.shipping, self.inspection = (
            database,
            warehouse,
            shipping,
            inspection,
        )
        self.commit_batch = min(commit_batch, CONFIRM_MAX)
        self._writer = Writer(
            database,
            load=lock_order_fulfillments,
            decide=decide,
            save=save_order_fulfillments,
        )
        self._shipments = telemetry.counter(
            "fulfillment_shipment_calls_total",
            "Shipments asked for at once, by what came of it",
            "outcome",
        )
        self._commit_pending = telemetry.reading(
            "fulfillments_stock_owed",
            "In planning without committed stock, by the warehouse's answer",
            "answer",
        )

    async def apply_order_events(
        self,
        envelopes: Sequence[Envelope[OrderEvent]],
    ) -> list[Outcome[tuple[Fulfillment, ...]]]:
        """Plans, cuts and cancels fulfilments as the events of their orders say.

        A confirmed order gets one fulfilment for each of its warehouses.
        """
        relevant = [each for each in envelopes if each.command.kind is not OrderEventKind.OTHER]
        attempts = await self._attempts_to_commit(relevant)
        try:
            answers = await self._confirm_reservations(uuid7(), attempts)
        except (Deferred, Defect):  # unreachable or defective: neither says whether it committed
            answers = {}  # planned with their commit pending: the worker asks again
        commands = {
            each.key: each.with_command(
                self._order_command(each.command, answers.get(each.command.order_attempt))
            )
            for each in relevant
        }
        outcomes = dict(
            zip(commands, await self._writer.write(list(commands.values())), strict=True)
        )
        applied = {key: fulfillments_outcome(outcome) for key, outcome in outcomes.items()}
        return [applied.get(each.key, Done(())) for each in envelopes]

    async def commit_pending_stock(self) -> None:
        """Asks the warehouse again for every pending commit, in batches. Raises Deferred where it
        cannot be reached.

        Several replicas may do it at once: the warehouse commits once, and one write records it.
        """
        with telemetry.reading_of(self._commit_pending):
            counts, unreachable = await self._commit_pending_stock()
        for answer in ("later", "refused"):
            self._commit_pending.labels(answer).set(counts[answer])
        if unreachable:
            raise unreachable

    async def _commit_pending_stock(self) -> tuple[Counter[str], Deferred | None]:
        """How many fulfilments still wait, by the warehouse's answer; and the failure that stopped
        the requests, if any. All are counted.
        """
        after, counts, unreachable = FIRST, Counter[str](), None
        while page := await self._commit_pending_page(after):
            request_id, after = uuid7(), page[-1].id
            answers: Mapping[OrderAttempt, CommitAnswer] = {}
            try:
                if not unreachable:
                    answers = await self._confirm_reservations(
                        request_id, {each.key.order_attempt for each in page}
                    )
            except Deferred as deferred:
                unreachable = deferred
            # a defect about one batch does not stop the next ones
            except Defect as defect:
                _log.error("the warehouse fails to say what became of owed stock", exc_info=defect)
            for outcome in await self._writer.write(
                list(commit_envelopes(page, answers, str(request_id)))
            ):
                if isinstance(outcome, Failure):
                    _log.error(
                        "stock is committed, and not settled here yet",
                        reason=outcome.reason,
                        exc_info=outcome,
                    )
            counts.update(answer_label(answers.get(each.key.order_attempt)) for each in page)
        return counts, unreachable

    async def change(self, envelope: Envelope[Request]) -> Fulfillment:
        """The fulfilment after a person's request. Asks for its shipment once it is ready."""
        [outcome] = await self._writer.write([envelope])
        fulfillment = unwrap(outcome).find(envelope.target)
        assert fulfillment, "a command about a fulfilment is done only where there is one"
        if fulfillment.status is Status.READY and not fulfillment.withdraw_reason:
            await self._request_shipment(fulfillment)
        return fulfillment

    async def inspect(self, envelope: Envelope[RecordInspection]) -> Fulfillment:
        """The fulfilment after an inspection. The warehouse posts spoiled units and replaces them.

        The units are stored as found first. Until the warehouse's answer is written, no inspection
        passes or fails the packages; the next one asks the warehouse again.
        Raises Deferred where the warehouse cannot be reached.
        """
        async with self.database.read() as connection:
            done = await self.database.was_done(connection, envelope.key)
        if done:
            return await self.change(envelope)
        fulfillment, recorded_before = await self._record_spoiled(envelope)
        spoiled_lines = [
            SpoiledLine(line.line_number, line.spoiled + line.unposted_spoiled, line.short)
            for line in fulfillment.lines
            if line.unposted_spoiled
        ]
        if spoiled_lines and fulfillment.status is Status.PACKED:
            replaced_lines = await self.warehouse.replace_spoiled(fulfillment.key, spoiled_lines)
            # What the warehouse posted has to be written here, at any version of the fulfilment.
            answered = replace(
                envelope.command, replaced_lines=replaced_lines, expected_version=None
            )
            envelope = envelope.with_command(answered)
        elif recorded_before and not spoiled_lines:
            # Another request wrote their posting, or they left the picklist before it.
            return fulfillment
        return await self.change(envelope)

    async def _record_spoiled(
        self,
        envelope: Envelope[RecordInspection],
    ) -> tuple[Fulfillment, bool]:
        """The fulfilment with its spoiled units, and whether this request stored them before."""
        command = envelope.command
        if not command.spoiled:
            fulfillment = await self.get_fulfillment(envelope.target)
            require_version(fulfillment, command)
            return fulfillment, False
        record_spoiled = RecordSpoiled(
            expected_version=command.expected_version,
            spoiled=command.spoiled,
        )
        [outcome] = await self._writer.write([envelope.step("spoiled", record_spoiled)])
        recorded = unwrap(outcome).find(envelope.target)
        assert recorded, "units are stored only where there is a fulfilment"
        return recorded, isinstance(outcome, Done) and outcome.repeat

    async def apply_shipment_events(
        self, envelopes: Sequence[Envelope[ShipmentCommand]]
    ) -> Sequence[Outcome[OrderFulfillments]]:
        """Writes the changes that events of shipments mean."""
        return await self._writer.write(envelopes)

    async def get_fulfillment(self, id: UUID) -> Fulfillment:
        """Raises NotFound FULFILLMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            found = await find_fulfillments(connection, [id])
        if id not in found:
            raise NotFound(
                "FULFILLMENT_NOT_FOUND", f"There is no fulfilment {id}.", fulfillment_id=str(id)
            )
        return found[id]

    async def list_fulfillments(self, wanted: Filter, page: Page) -> tuple[Sequence[Any], str]:
        """A page of them, and the token of the next."""
        async with self.database.read() as connection:
            found = await list_fulfillments(connection, wanted, page)
            return await page.fill(found, partial(find_fulfillments, connection))

    async def list_transitions(self, fulfillment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of its history, and the next page's token.

        Raises NotFound FULFILLMENT_NOT_FOUND.
        """
        after = page.after[0] if page.after else 0
        await self.get_fulfillment(fulfillment_id)
        async with self.database.read() as connection:
            rows = await list_history(connection, fulfillment_id, after, page.size + 1)
        return page.cut(rows, lambda step: (step.version,))

    async def _request_shipment(self, fulfillment: Fulfillment) -> None:
        """Best effort: where it fails, shipping makes the shipment when it consumes the event of
        the ready fulfilment.
        """
        try:
            # Made ready again, with other packages, it is another version, and another request.
            request_id = uuid5(fulfillment.id, f"CreateShipment:{fulfillment.version}")
            await self.shipping.create_shipment(request_id, fulfillment)
        except Failure as failure:
            self._shipments.labels("later" if isinstance(failure, Deferred) else "refused").inc()
            _log.warning(
                "no shipment at once",
                fulfillment_id=str(fulfillment.id),
                reason=failure.reason,
                message=failure.message,
            )
        else:
            self._shipments.labels("done").inc()

    async def _confirm_reservations(
        self, request_id: UUID, attempts: Collection[OrderAttempt]
    ) -> dict[OrderAttempt, CommitAnswer]:
        """The warehouse's answers. An order lives in its last attempt, and is asked about once."""
        last = {each.order_id: each for each in sorted(attempts, key=attrgetter("attempt"))}
        asked = list(last.values())[:CONFIRM_MAX]
        return await self.warehouse.confirm_reservations(request_id, asked) if asked else {}

    async def _attempts_to_commit(
        self,
        envelopes: Sequence[Envelope[OrderEvent]],
    ) -> set[OrderAttempt]:
        """The attempts with a pending commit and fulfilments that are still to be created.

        An event that the write refuses, by its key or by its version, names none.
        """
        if not any(needs_commit(each.command) for each in envelopes):
            return set()
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            events = [
                each.command
                for each, refusal in zip(envelopes, refusals, strict=True)
                if refusal is None and needs_commit(each.command)
            ]
            orders = {each.order_id for each in events}
            known = await find_keys(connection, orders)
            versions = await find_versions(connection, orders)
        return {
            each.order_attempt
            for each in events
            if not is_jump(versions.get(each.order_id, 0), each.version)
            and not known.issuperset(each.fulfillment_keys)
        }

    async def _commit_pending_page(self, after: UUID) -> list[Fulfillment]:
        async with self.database.read() as connection:
            return await find_commit_pending(connection, after, self.commit_batch)

    def _order_command(self, event: OrderEvent, answer: CommitAnswer | None) -> OrderCommand:
        """The command that the event means for the order's fulfilments."""
        lines_by_warehouse = (
            answer.lines_by_warehouse if isinstance(answer, Committed) else event.lines_by_warehouse
        )
        picklists = tuple(
            Picklist(
                id=uuid7(),
                warehouse_id=warehouse_id,
                lines=lines,
                inspection_rule=self.inspection.rule(
                    FulfillmentKey(event.order_id, warehouse_id, event.attempt), event.total, lines
                ),
            )
            for warehouse_id, lines in sorted(lines_by_warehouse.items())
        )
        fields: dict[str, Any] = {
            "attempt": event.attempt,
            "order_number": event.order_number,
            "version": event.version,
        }
        if event.kind is OrderEventKind.CANCELLED:
            return CloseAttempt(**fields, picklists=picklists)
        units = (
            Allocation(warehouse_id, line.line_number, line.quantity)
            for warehouse_id, lines in event.lines_by_warehouse.items()
            for line in lines
        )
        remaining = RemainingUnits(event.attempt, event.version, tuple(sorted(units)))
        if event.kind is OrderEventKind.CUT:
            return Cut(**fields, remaining=remaining)
        committed = isinstance(answer, Committed) or event.stock_committed
        return Plan(
            **fields,
            picklists=picklists,
            stock_committed=committed,
            remaining=None if event.stock_committed else remaining,
        )


def needs_commit(event: OrderEvent) -> bool:
    """Whether an order is confirmed whose stock is not committed yet."""
    return event.kind is OrderEventKind.CONFIRMED and not event.stock_committed


def fulfillments_outcome(outcome: Outcome[OrderFulfillments]) -> Outcome[tuple[Fulfillment, ...]]:
    """The order's fulfilments, where its event was applied."""
    return (
        outcome
        if isinstance(outcome, Failure)
        else Done(outcome.record.fulfillments, outcome.repeat)
    )


def commit_envelopes(
    page: Sequence[Fulfillment],
    answers: Mapping[OrderAttempt, CommitAnswer],
    request_id: str,
) -> Iterator[Envelope[RecordCommit]]:
    """A command for each attempt of the page whose stock the warehouse has committed.

    The stock may be in another warehouse than that of the fulfilment that waited for it.
    """
    waiting = defaultdict[OrderAttempt, list[Fulfillment]](list)
    for each in page:
        waiting[each.key.order_attempt].append(each)
    for order_attempt, those in waiting.items():
        answer = answers.get(order_attempt)
        if not isinstance(answer, Committed):
            continue
        lines_by_warehouse = sorted(answer.lines_by_warehouse.items())
        record_commit = RecordCommit(
            attempt=order_attempt.attempt,
            order_number=those[0].order_number,
            picklists=tuple(
                Picklist(uuid7(), warehouse_id, lines) for warehouse_id, lines in lines_by_warehouse
            ),
        )
        yield Envelope(
            # An attempt's commit is recorded once.
            key=f"fulfillment.stock_committed:{order_attempt.order_id}:{order_attempt.attempt}",
            request_hash=b"",
            target=order_attempt.order_id,
            actor="fulfillment",
            cause=request_id,
            command=record_commit,
        )


def answer_label(answer: CommitAnswer | None) -> str:
    """How the warehouse's answer is counted."""
    if isinstance(answer, NotCommitted) and answer.final:
        return "refused"
    return "done" if isinstance(answer, Committed) else "later"
