"""Refunds: operations, with columns of their payments."""

from dataclasses import fields
from operator import eq, ge, lt

from sqlalchemy import Column, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows
from chassis.write.tables import conditions
from payment_svc.lifecycle import REFUND_STATUS, Kind
from payment_svc.model.filters import RefundFilter
from payment_svc.model.records import Refund
from payment_svc.tables import operations, payments, refund_update_time

PAYMENT_COLUMNS = ("order_id", "attempt", "currency")
REFUND_COLUMNS = [
    (payments if each.name in PAYMENT_COLUMNS else operations).c[each.name]
    for each in fields(Refund)
]
REFUND = RecordRows(Refund, REFUND_COLUMNS)
read_refunds = (
    select(*REFUND_COLUMNS)
    .join_from(operations, payments)
    .where(operations.c.kind == Kind.REFUND)
    .order_by(operations.c.request_time.desc(), operations.c.id.desc())
)
read_open_refunds = select(
    func.count(),
    func.coalesce(
        func.extract("epoch", func.clock_timestamp() - func.min(operations.c.request_time)), 0
    ),
).where(operations.c.next_lookup_time.is_not(None), operations.c.kind == Kind.REFUND)


async def list_refunds(
    connection: AsyncConnection, filters: RefundFilter, page: Page
) -> list[Refund]:
    """The page's refunds and one more where there are more, newest first. A place in the list is
    (request_time, id).
    """
    outcomes = [outcome for outcome, status in REFUND_STATUS.items() if status in filters.statuses]
    where = conditions(
        (payments.c.order_id, eq, filters.order_id),
        (operations.c.payment_id, eq, filters.payment_id),
        (operations.c.outcome, Column.in_, outcomes),
        (refund_update_time, ge, filters.update_time_from),
        (refund_update_time, lt, filters.update_time_before),
        (
            tuple_(operations.c.request_time, operations.c.id),
            lambda place, after: place < tuple_(*after),
            page.after,
        ),
    )
    rows = await connection.execute(read_refunds.where(*where).limit(page.size + 1))
    return [REFUND.record(row) for row in rows]


async def open_refunds(connection: AsyncConnection) -> tuple[int, float]:
    """How many refunds wait for the processor's answer, and the age of the oldest in seconds (0
    where there is none).
    """
    count, age_s = (await connection.execute(read_open_refunds)).one()
    return count, float(age_s)
