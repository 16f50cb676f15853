"""What the fulfilment service does: one method for each thing. The warehouse is asked before the
write, for the whole set at once.
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
from fulfillment_svc import store
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.decisions.steps import expect
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model import (
    Allocation,
    CommitAnswer,
    Committed,
    Cut,
    End,
    Filter,
    Fulfillment,
    InspectionPolicy,
    Job,
    Kept,
    News,
    NotCommitted,
    NoteSpoiled,
    OfOrder,
    OfShipment,
    OrderAttempt,
    OrderNews,
    Picklist,
    Plan,
    RecordInspection,
    Request,
    Settle,
    Spoiling,
    Work,
)
from fulfillment_svc.peers import Shipping, Warehouse

# As many orders as the warehouse takes in one call. More are planned with their stock owed, and the
# worker asks for them.
CONFIRM_MAX: Final = 500
FIRST: Final = UUID(int=0)

_log = structlog.get_logger(__name__)


class Operations:
    """The fulfilment service's doors lead here; from here to its peers, its decisions and its
    store.
    """

    def __init__(
        self,
        database: Database,
        warehouse: Warehouse,
        shipping: Shipping,
        inspection: InspectionPolicy,
        *,
        owed_batch: int = 100,
    ) -> None:
        """`owed_batch`: about how many fulfilments at once the warehouse is asked again;
        CONFIRM_MAX at most.
        """
        self.database, self.warehouse, self.shipping, self.inspection = (
            database,
            warehouse,
            shipping,
            inspection,
        )
        self.owed_batch = min(owed_batch, CONFIRM_MAX)
        self._writer = Writer(database, load=store.lock_jobs, decide=decide, save=store.save_jobs)
        self._shipments = telemetry.counter(
            "fulfillment_shipment_calls_total",
            "Shipments asked for at once, by what came of it",
            "outcome",
        )
        self._owed = telemetry.reading(
            "fulfillments_stock_owed",
            "In planning without committed stock, by the warehouse's answer",
            "answer",
        )

    async def follow_orders(
        self,
        envelopes: Sequence[Envelope[OrderNews]],
    ) -> list[Outcome[tuple[Fulfillment, ...]]]:
        """Plans, cuts and ends fulfilments as the events of their orders say.

        A confirmed order gets one fulfilment for each of its warehouses.
        """
        meant = [each for each in envelopes if each.command.news is not News.OTHER]
        owed = await self._attempts_owed(meant)
        try:
            answers = await self._confirm(uuid7(), owed)
        except (Deferred, Defect):  # away, or failed: neither says anything of the stock
            answers = {}  # planned all the same, with their stock owed: the worker goes on asking
        asked = {
            each.key: each.with_command(self._asked(each.command, answers.get(each.command.of)))
            for each in meant
        }
        outcomes = dict(zip(asked, await self._writer.write(list(asked.values())), strict=True))
        followed = {key: fulfilled(outcome) for key, outcome in outcomes.items()}
        return [followed.get(each.key, Done(())) for each in envelopes]

    async def commit_owed_stock(self) -> None:
        """Asks the warehouse again for all stock that is owed, in batches. Raises Deferred where it
        cannot be reached.

        Several replicas may do it at once: the warehouse commits once, and the write settles once.
        """
        with telemetry.reading_of(self._owed):
            left, away = await self._commit_owed_stock()
        for answer in ("later", "refused"):
            self._owed.labels(answer).set(left[answer])
        if away:
            raise away

    async def _commit_owed_stock(self) -> tuple[Counter[str], Deferred | None]:
        """How many fulfilments still wait, by the warehouse's answer; and why it was not asked
        to the end, if so. All are counted.
        """
        after, left, away = FIRST, Counter[str](), None
        while page := await self._page_of_owed(after):
            request_id, after = uuid7(), page[-1].id
            answers: Mapping[OrderAttempt, CommitAnswer] = {}
            try:
                if not away:
                    answers = await self._confirm(request_id, {each.work.of for each in page})
            except Deferred as deferred:
                away = deferred
            # what the warehouse stumbles over keeps those that come after it from nothing
            except Defect as defect:
                _log.error("the warehouse fails to say what became of owed stock", exc_info=defect)
            for outcome in await self._writer.write(list(settling(page, answers, str(request_id)))):
                if isinstance(outcome, Failure):
                    _log.error(
                        "stock is committed, and not settled here yet",
                        reason=outcome.reason,
                        exc_info=outcome,
                    )
            left.update(answered(answers.get(each.work.of)) for each in page)
        return left, away

    async def change(self, envelope: Envelope[Request]) -> Fulfillment:
        """The fulfilment after a person's request. Asks for its shipment once it is ready."""
        [outcome] = await self._writer.write([envelope])
        fulfillment = unwrap(outcome).find(envelope.target)
        assert fulfillment, "a command about a fulfilment is done only where there is one"
        if fulfillment.status is Status.READY and not fulfillment.withdraw_reason:
            await self._hand_over(fulfillment)
        return fulfillment

    async def inspect(self, envelope: Envelope[RecordInspection]) -> Fulfillment:
        """The fulfilment after an inspection. The warehouse books spoiled units and replaces them.

        The units are stored as found first. Until the warehouse's answer is written, no inspection
        passes or fails the packages; the next one asks the warehouse again.
        Raises Deferred where the warehouse cannot be reached.
        """
        async with self.database.read() as connection:
            done = await self.database.was_done(connection, envelope.key)
        if done:
            return await self.change(envelope)
        fulfillment, noted_before = await self._note_spoiled(envelope)
        spoiling = [
            Spoiling(its.line_number, its.spoiled + its.unbooked, its.short)
            for its in fulfillment.lines
            if its.unbooked
        ]
        if spoiling and fulfillment.status is Status.PACKED:
            rebooked = await self.warehouse.replace_spoiled(fulfillment.work, spoiling)
            # What is booked there has to be written here, at any version of the fulfilment.
            booked = replace(envelope.command, rebooked=rebooked, expected_version=None)
            envelope = envelope.with_command(booked)
        elif noted_before and not spoiling:
            # Another request has had them booked and written, or they left the picklist unbooked.
            return fulfillment
        return await self.change(envelope)

    async def _note_spoiled(
        self,
        envelope: Envelope[RecordInspection],
    ) -> tuple[Fulfillment, bool]:
        """The fulfilment with its spoiled units, and whether this request stored them before."""
        command = envelope.command
        if not command.spoiled:
            fulfillment = await self.get_fulfillment(envelope.target)
            expect(fulfillment, command)
            return fulfillment, False
        noting = NoteSpoiled(
            expected_version=command.expected_version,
            spoiled=command.spoiled,
        )
        [outcome] = await self._writer.write([envelope.step("spoiled", noting)])
        noted = unwrap(outcome).find(envelope.target)
        assert noted, "units are noted only where there is a fulfilment"
        return noted, isinstance(outcome, Done) and outcome.repeat

    async def note(self, envelopes: Sequence[Envelope[OfShipment]]) -> Sequence[Outcome[Job]]:
        """Writes what shipping says of shipments."""
        return await self._writer.write(envelopes)

    async def get_fulfillment(self, id: UUID) -> Fulfillment:
        """Raises NotFound FULFILLMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            found = await store.find_fulfillments(connection, [id])
        if id not in found:
            raise NotFound(
                "FULFILLMENT_NOT_FOUND", f"There is no fulfilment {id}.", fulfillment_id=str(id)
            )
        return found[id]

    async def list_fulfillments(self, wanted: Filter, page: Page) -> tuple[Sequence[Any], str]:
        """A page of them, and the token of the next."""
        async with self.database.read() as connection:
            found = await store.list_fulfillments(connection, wanted, page)
            return await page.fill(found, partial(store.find_fulfillments, connection))

    async def list_transitions(self, fulfillment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of its history, and the next page's token.

        Raises NotFound FULFILLMENT_NOT_FOUND.
        """
        after = page.after[0] if page.after else 0
        await self.get_fulfillment(fulfillment_id)
        async with self.database.read() as connection:
            rows = await store.list_history(connection, fulfillment_id, after, page.size + 1)
        return page.cut(rows, lambda step: (step.version,))

    async def _hand_over(self, fulfillment: Fulfillment) -> None:
        """Best effort: where it fails, shipping hears that the fulfilment is ready by its event,
        and makes the shipment then.
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

    async def _confirm(
        self, request_id: UUID, attempts: Collection[OrderAttempt]
    ) -> dict[OrderAttempt, CommitAnswer]:
        """The warehouse's answers. An order lives in its last attempt, and is asked about once."""
        last = {each.order_id: each for each in sorted(attempts, key=attrgetter("attempt"))}
        asked = list(last.values())[:CONFIRM_MAX]
        return await self.warehouse.confirm(request_id, asked) if asked else {}

    async def _attempts_owed(
        self,
        envelopes: Sequence[Envelope[OrderNews]],
    ) -> set[OrderAttempt]:
        """The attempts whose stock is owed to fulfilments that are still to be made.

        An event that the write refuses, by its key or by its version, names none.
        """
        if not any(owes(each.command) for each in envelopes):
            return set()
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            news = [
                each.command
                for each, refusal in zip(envelopes, refusals, strict=True)
                if refusal is None and owes(each.command)
            ]
            orders = {each.order_id for each in news}
            known = await store.works_of(connection, orders)
            versions = await store.versions_of(connection, orders)
        return {
            each.of
            for each in news
            if not is_jump(versions.get(each.order_id, 0), each.version)
            and not known.issuperset(each.works)
        }

    async def _page_of_owed(self, after: UUID) -> list[Fulfillment]:
        async with self.database.read() as connection:
            return await store.find_owed(connection, after, self.owed_batch)

    def _asked(self, news: OrderNews, answer: CommitAnswer | None) -> OfOrder:
        """The command that the event means for the order's fulfilments."""
        shares = answer.shares if isinstance(answer, Committed) else news.shares
        picklists = tuple(
            Picklist(
                id=uuid7(),
                warehouse_id=at,
                lines=lines,
                inspection_rule=self.inspection.rule(
                    Work(news.order_id, at, news.attempt), news.total, lines
                ),
            )
            for at, lines in sorted(shares.items())
        )
        about: dict[str, Any] = {
            "attempt": news.attempt,
            "order_number": news.order_number,
            "version": news.version,
        }
        if news.news is News.ENDED:
            return End(**about, picklists=picklists)
        units = (
            Allocation(at, line.line_number, line.quantity)
            for at, lines in news.shares.items()
            for line in lines
        )
        kept = Kept(news.attempt, news.version, tuple(sorted(units)))
        if news.news is News.CUT:
            return Cut(**about, kept=kept)
        committed = isinstance(answer, Committed) or news.stock_committed
        return Plan(
            **about,
            picklists=picklists,
            stock_committed=committed,
            kept=None if news.stock_committed else kept,
        )


def owes(news: OrderNews) -> bool:
    """Whether an order is confirmed whose stock is not committed yet."""
    return news.news is News.CONFIRMED and not news.stock_committed


def fulfilled(outcome: Outcome[Job]) -> Outcome[tuple[Fulfillment, ...]]:
    """The order's fulfilments, where its news was followed."""
    return (
        outcome
        if isinstance(outcome, Failure)
        else Done(outcome.record.fulfillments, outcome.repeat)
    )


def settling(
    page: Sequence[Fulfillment],
    answers: Mapping[OrderAttempt, CommitAnswer],
    request_id: str,
) -> Iterator[Envelope[Settle]]:
    """A command for each attempt of the page whose stock the warehouse has committed.

    The stock may be in another warehouse than that of the fulfilment that waited for it.
    """
    waiting = defaultdict[OrderAttempt, list[Fulfillment]](list)
    for each in page:
        waiting[each.work.of].append(each)
    for of, those in waiting.items():
        answer = answers.get(of)
        if not isinstance(answer, Committed):
            continue
        shares = sorted(answer.shares.items())
        settle = Settle(
            attempt=of.attempt,
            order_number=those[0].order_number,
            picklists=tuple(Picklist(uuid7(), at, lines) for at, lines in shares),
        )
        yield Envelope(
            # An attempt's stock is settled once.
            key=f"fulfillment.stock_committed:{of.order_id}:{of.attempt}",
            request_hash=b"",
            target=of.order_id,
            actor="fulfillment",
            cause=request_id,
            command=settle,
        )


def answered(answer: CommitAnswer | None) -> str:
    """How the warehouse's answer is counted."""
    if isinstance(answer, NotCommitted) and answer.final:
        return "refused"
    return "done" if isinstance(answer, Committed) else "later"
