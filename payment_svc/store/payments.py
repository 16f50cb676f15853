"""Payments with their operations."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from operator import eq, ge, lt
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import conditions, is_any_of, upsert_rows
from payment_svc.model.filters import PaymentFilter
from payment_svc.model.records import Operation, Payment
from payment_svc.store.operations import CONTRADICTION, OPERATION, read_operations
from payment_svc.tables import payments

PAYMENT = RecordRows(
    Payment,
    payments.c,
    loaded=["operations"],
    derived=["authorized", "captured", "refunded", "refund_pending", "decline_code"],
)
read_payments = select(payments).where(is_any_of(payments.c.order_id)).order_by(payments.c.id)
read_payment = select(payments).where(payments.c.id == bindparam("payment_id"))
save_payments = upsert_rows(payments)


async def find_payment(connection: AsyncConnection, payment_id: UUID) -> Payment | None:
    found = await load_payments(connection, read_payment, {"payment_id": payment_id})
    return found[0] if found else None


async def list_payments(
    connection: AsyncConnection, filters: PaymentFilter, page: Page
) -> list[Payment]:
    """The page's payments and one more where there are more, newest first."""
    where = conditions(
        (payments.c.order_id, eq, filters.order_id),
        (payments.c.status, Column.in_, filters.statuses),
        (payments.c.create_time, ge, filters.create_time_from),
        (payments.c.update_time, ge, filters.update_time_from),
        (payments.c.update_time, lt, filters.update_time_before),
        (payments.c.id, lt, page.after and page.after[0]),
    )
    statement = select(payments).where(*where).order_by(payments.c.id.desc()).limit(page.size + 1)
    return await load_payments(connection, statement, {})


async def load_payments(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Payment]:
    """The payments that the statement finds, in its order, each with its operations, oldest
    first.
    """
    rows = list(await connection.execute(statement, parameters))
    if not rows:
        return []
    of_payment: defaultdict[UUID, dict[UUID, Operation]] = defaultdict(dict)
    payment_ids = column_arrays(payment_id=[row.id for row in rows])
    for row in await connection.execute(read_operations, payment_ids):
        operation = of_payment[row.payment_id].get(row.id) or OPERATION.record(row)
        if row.contradiction_id:
            contradiction = CONTRADICTION.record(row, "contradiction_")
            operation = replace(
                operation, contradictions=(*operation.contradictions, contradiction)
            )
        of_payment[row.payment_id][row.id] = operation
    return [PAYMENT.record(row, operations=tuple(of_payment[row.id].values())) for row in rows]
