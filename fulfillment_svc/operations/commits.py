"""Commits of stock, requested from the warehouse again while they are pending."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred, Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from fulfillment_svc.model.commands import (
    CommitAnswer,
    Committed,
    NotCommitted,
    Picklist,
    RecordCommit,
)
from fulfillment_svc.model.records import Fulfillment, OrderAttempt, OrderFulfillments
from fulfillment_svc.peers import Warehouse
from fulfillment_svc.store.fulfillments import find_commit_pending

# The most orders that the warehouse takes in one call. Others are planned with their commit
# pending, and the worker requests it.
COMMIT_MAX: Final = 500
FIRST: Final = UUID(int=0)
_log = structlog.get_logger(__name__)


class CommitOperations:
    """The worker's requests for pending commits."""

    def __init__(
        self,
        database: Database,
        writer: Writer[OrderFulfillments],
        warehouse: Warehouse,
        commit_batch: int,
    ) -> None:
        """`commit_batch`: the most fulfilments that one batch of the worker reads."""
        self.database, self.writer, self.warehouse = database, writer, warehouse
        self.commit_batch = commit_batch
        self._commit_pending = telemetry.reading(
            "fulfillments_commit_pending",
            "Fulfilments whose stock is not committed, by the warehouse's last answer",
            "answer",
        )

    async def commit_pending_stock(self) -> None:
        """Asks the warehouse again for every pending commit, in batches. Raises Deferred where it
        cannot be reached.

        Several replicas may do it at once: the warehouse commits once, and one write records it.
        """
        with telemetry.reading_of(self._commit_pending):
            counts, unreachable = await self._commit_pending_stock()
        for answer in ("deferred", "refused"):
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
                    answers = await commit_attempts(
                        self.warehouse, request_id, {each.key.order_attempt for each in page}
                    )
            except Deferred as deferred:
                unreachable = deferred
            # a defect about one batch does not stop the next ones
            except Defect as defect:
                _log.error("the warehouse failed to answer about pending commits", exc_info=defect)
            for outcome in await self.writer.write(
                list(commit_envelopes(page, answers, str(request_id)))
            ):
                if isinstance(outcome, Failure):
                    _log.error(
                        "a commit is not recorded yet, and is requested again",
                        reason=outcome.reason,
                        exc_info=outcome,
                    )
            counts.update(answer_label(answers.get(each.key.order_attempt)) for each in page)
        return counts, unreachable

    async def _commit_pending_page(self, after: UUID) -> list[Fulfillment]:
        async with self.database.read() as connection:
            return await find_commit_pending(connection, after, self.commit_batch)


async def commit_attempts(
    warehouse: Warehouse, request_id: UUID, attempts: Collection[OrderAttempt]
) -> dict[OrderAttempt, CommitAnswer]:
    """The warehouse's answers. Only the last attempt of each order is asked about."""
    last = {each.order_id: each for each in sorted(attempts, key=attrgetter("attempt"))}
    batch = list(last.values())[:COMMIT_MAX]
    return await warehouse.commit(request_id, batch) if batch else {}


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
                Picklist(id=uuid7(), warehouse_id=warehouse_id, lines=lines)
                for warehouse_id, lines in lines_by_warehouse
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
    return "done" if isinstance(answer, Committed) else "deferred"
