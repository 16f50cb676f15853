"""Operations at processors, and the contradictions of their outcomes."""

from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import RecordRows
from chassis.write.tables import is_any_of, upsert_rows
from payment_svc.model.records import Contradiction, Operation
from payment_svc.tables import contradictions, operations, payments

OPERATION = RecordRows(Operation, operations.c, keys=["payment_id"], loaded=["contradictions"])
CONTRADICTION = RecordRows(Contradiction, contradictions.c, keys=["operation_id"])
# A row for each contradiction of an operation, or one where there is none.
read_operations = (
    select(
        operations,
        *(c.label(f"contradiction_{c.name}") for c in contradictions.c if c.name != "operation_id"),
    )
    .outerjoin(contradictions)
    .where(is_any_of(operations.c.payment_id))
    .order_by(
        operations.c.request_time,
        operations.c.id,
        contradictions.c.report_time,
        contradictions.c.id,
    )
)
read_order_of_operation = (
    select(payments.c.order_id).join(operations).where(operations.c.id == bindparam("operation_id"))
)
read_due = (
    select(payments.c.order_id, operations.c.id, operations.c.lookups)
    .join(operations)
    .where(operations.c.next_lookup_time <= func.clock_timestamp())
    .order_by(operations.c.next_lookup_time)
    .limit(bindparam("limit"))
)
count_open_contradictions = (
    select(func.count()).select_from(contradictions).where(contradictions.c.resolve_time.is_(None))
)
save_operations = upsert_rows(operations)
save_contradictions = upsert_rows(contradictions)


async def order_of_operation(connection: AsyncConnection, operation_id: UUID) -> UUID | None:
    return (
        await connection.execute(read_order_of_operation, {"operation_id": operation_id})
    ).scalar_one_or_none()


async def due_operations(connection: AsyncConnection, limit: int) -> list[tuple[UUID, UUID, int]]:
    """The operations that are due for a lookup: the order, the operation, the number of lookups so
    far. The longest due come first.
    """
    return [
        (order_id, id, lookups)
        for order_id, id, lookups in await connection.execute(read_due, {"limit": limit})
    ]


async def open_contradictions(connection: AsyncConnection) -> int:
    """How many contradictions of processors no operator has resolved."""
    return int((await connection.execute(count_open_contradictions)).scalar_one())
