"""What the fulfilment service does: one method for each thing. The warehouse is asked before the write, for the whole set at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID, uuid5

import structlog
from uuid_utils.compat import uuid7

from chassis import telemetry
from chassis.database import Database
from chassis.decision import Done, Outcome, unwrap
from chassis.errors import Deferred, Failure, NotFound
from chassis.paging import Page
from fulfillment_svc import decisions, store
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model import (
    Asked,
    Cancel,
    CommitAnswer,
    Committed,
    Complete,
    Filter,
    Fulfillment,
    FulfillmentCommand,
    InspectionPolicy,
    NotCommitted,
    OrderAttempt,
    OrderNews,
    Plan,
    Ship,
    Withdraw,
    Work,
)
from fulfillment_svc.peers import Shipping, Warehouse

# As many orders as the warehouse takes in one call. More are planned with their stock owed, and the worker asks for them.
CONFIRM_MAX: Final = 500
FIRST: Final = UUID(int=0)

_log = structlog.get_logger(__name__)


class Operations:
    """The fulfilment service's doors lead here; from here to its peers, its decisions and its store."""

    def __init__(
        self, database: Database, warehouse: Warehouse, shipping: Shipping, inspection: InspectionPolicy, *, owed_batch: int = 100
    ) -> None:
        """`owed_batch`: about how many fulfilments at once the warehouse is asked again; CONFIRM_MAX at most."""
        self.database, self.warehouse, self.shipping, self.inspection = database, warehouse, shipping, inspection
        self.owed_batch = min(owed_batch, CONFIRM_MAX)
        self._shipments = telemetry.counter(
            "fulfillment_shipment_calls_total", "Shipments asked for at once, by what came of it", "outcome"
        )
        self._owed = telemetry.gauge("fulfillments_stock_owed", "In planning without committed stock, by the warehouse's answer", "answer")

    async def follow_orders(self, news: Sequence[OrderNews]) -> list[Outcome[tuple[Fulfillment, ...]]]:
        """A confirmed order becomes one fulfilment for each of its warehouses; of a dead one, none lives on."""
        async with self.database.read() as connection:
            known = await store.works_of(connection, {each.order_id for each in news if each.shares})
        owed = {each.of for each in news if each.live and not each.stock_committed and not known.issuperset(each.works)}
        try:
            answers = await self._confirm(uuid7(), owed)
        except Deferred:
            answers = {}  # planned all the same, with their stock owed: the worker goes on asking
        proposed = defaultdict[Work, UUID](uuid7)
        asked = [list(self._asked(each, answers.get(each.of), known, proposed)) for each in news]
        outcomes = iter(await self._write([command for commands in asked for command in commands]))
        return [together([next(outcomes) for _ in commands]) for commands in asked]

    async def commit_owed_stock(self) -> None:
        """Asks the warehouse again for all stock that is owed, in batches. Raises Deferred where it cannot be reached.

        Several replicas may do it at once: the warehouse commits once, and the write settles once.
        """
        after, left = FIRST, Counter[str]()
        while page := await self._page_of_owed(after):
            request_id, after = uuid7(), page[-1].id
            answers = await self._confirm(request_id, {each.work.of for each in page})
            for outcome in await self._write(list(settling(page, answers, str(request_id)))):
                if isinstance(outcome, Failure):
                    _log.error("stock is committed, and not settled here yet", reason=outcome.reason, exc_info=outcome)
            left.update(answered(answers.get(each.work.of)) for each in page)
        for answer in ("later", "refused"):
            self._owed.labels(answer).set(left[answer])

    async def change(self, command: Asked) -> Fulfillment:
        """What a person asks for. For what is ready then, a shipment is asked for at once."""
        [outcome] = await self._write([command])
        fulfillment = unwrap(outcome)
        if fulfillment.status is Status.READY:
            await self._hand_over(fulfillment)
        return fulfillment

    async def note(self, commands: Sequence[Ship | Complete]) -> Sequence[Outcome[Fulfillment]]:
        """News of shipments."""
        return await self._write(commands)

    async def get_fulfillment(self, id: UUID) -> Fulfillment:
        """Raises NotFound FULFILLMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            found = await store.find_fulfillments(connection, [id])
        if id not in found:
            raise NotFound("FULFILLMENT_NOT_FOUND", f"There is no fulfilment {id}.", fulfillment_id=str(id))
        return found[id]

    async def list_fulfillments(self, wanted: Filter, page: Page) -> tuple[Sequence[Fulfillment], str]:
        """A page of them, and the token of the next."""
        async with self.database.read() as connection:
            return page.cut(await store.list_fulfillments(connection, wanted, page), lambda each: (each.id,))

    async def _hand_over(self, fulfillment: Fulfillment) -> None:
        """Best effort: where it fails, shipping hears that the fulfilment is ready by its event, and makes the shipment then."""
        try:
            await self.shipping.create_shipment(uuid5(fulfillment.id, "CreateShipment"), fulfillment)
        except Failure as failure:
            self._shipments.labels("later" if isinstance(failure, Deferred) else "refused").inc()
            _log.warning("no shipment at once", fulfillment_id=str(fulfillment.id), reason=failure.reason, message=failure.message)
        else:
            self._shipments.labels("done").inc()

    async def _confirm(self, request_id: UUID, attempts: Collection[OrderAttempt]) -> dict[OrderAttempt, CommitAnswer]:
        """The warehouse's answers. An order lives in its last attempt, and is asked about once."""
        last = {each.order_id: each for each in sorted(attempts, key=attrgetter("attempt"))}
        asked = list(last.values())[:CONFIRM_MAX]
        return await self.warehouse.confirm(request_id, asked) if asked else {}

    async def _page_of_owed(self, after: UUID) -> list[Fulfillment]:
        async with self.database.read() as connection:
            return await store.find_owed(connection, after, self.owed_batch)

    async def _write(self, commands: Sequence[FulfillmentCommand]) -> list[Outcome[Fulfillment]]:
        return await self.database.write(commands, load=store.lock_fulfillments, decide=decisions.decide, save=store.save_fulfillments)

    def _asked(
        self, news: OrderNews, answer: CommitAnswer | None, known: Collection[Work], proposed: Mapping[Work, UUID]
    ) -> Iterator[Plan | Cancel]:
        """What the news asks of each warehouse: of a confirmed order's, of a dead one's also where it knows of no stock of its own."""
        committed = isinstance(answer, Committed) or news.stock_committed
        shares = answer.shares if isinstance(answer, Committed) else news.shares
        picklists = {Work(news.order_id, at, news.attempt): lines for at, lines in shares.items()}
        if not news.live and news.shares:
            picklists = {work: () for work in known if work.of == news.of} | picklists
        for work, lines in picklists.items():
            rule = self.inspection.rule(work, news.total, lines)
            about: dict[str, Any] = {
                "key": f"{news.key}:{work.warehouse_id}",
                "digest": news.digest,
                "target": proposed[work],
                "actor": "order",
                "cause": news.cause,
                "work": work,
                "order_number": news.order_number,
                "lines": lines,
            }
            yield Plan(**about, stock_committed=committed, inspection_rule=rule) if news.live else Cancel(**about)


def together(outcomes: Sequence[Outcome[Fulfillment]]) -> Outcome[tuple[Fulfillment, ...]]:
    """One outcome for an event that concerns several fulfilments: what may still succeed brings the event again, before all else."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if failures:
        return next((failure for failure in failures if isinstance(failure, Deferred)), failures[0])
    return Done(tuple(unwrap(outcome) for outcome in outcomes))


def settling(page: Sequence[Fulfillment], answers: Mapping[OrderAttempt, CommitAnswer], request_id: str) -> Iterator[Plan | Withdraw]:
    """What committed stock means for the fulfilments that waited for it: their own, or that of a warehouse that has it in their place.

    Work that moves to another warehouse takes the rule of its inspection along.
    """
    waiting = defaultdict[OrderAttempt, list[Fulfillment]](list)
    for each in page:
        waiting[each.work.of].append(each)
    for attempt, those in waiting.items():
        answer = answers.get(attempt)
        if not isinstance(answer, Committed):
            continue
        rule = next((each.inspection_rule for each in those if each.inspection_rule), None)
        for at, lines in sorted(answer.shares.items()):
            work = Work(attempt.order_id, at, attempt.attempt)
            yield Plan(
                **_own(work, request_id, uuid7()),
                work=work,
                order_number=those[0].order_number,
                lines=lines,
                stock_committed=True,
                inspection_rule=rule,
            )
        for each in those:
            if each.work.warehouse_id not in answer.shares:
                yield Withdraw(**_own(each.work, request_id, each.id))


def answered(answer: CommitAnswer | None) -> str:
    """How the warehouse's answer is counted."""
    if isinstance(answer, NotCommitted) and answer.final:
        return "refused"
    return "done" if isinstance(answer, Committed) else "later"


def _own(work: Work, request_id: str, target: UUID) -> dict[str, Any]:
    """What a command of the worker has. Each work's stock is settled once, so its key is the work's."""
    key = f"fulfillment.stock_committed:{work.order_id}:{work.attempt}:{work.warehouse_id}"
    return {"key": key, "digest": b"", "target": target, "actor": "fulfillment", "cause": request_id}
