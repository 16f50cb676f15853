"""The history of payments."""

from uuid import UUID

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows
from chassis.write.tables import insert_rows
from payment_svc.lifecycle import Kind
from payment_svc.model.records import Transition
from payment_svc.tables import history, operations

TRANSITION = RecordRows(Transition, history.c)
read_history = (
    select(history, operations.c.kind)
    .outerjoin_from(history, operations, history.c.operation_id == operations.c.id)
    .where(history.c.payment_id == bindparam("payment_id"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("limit"))
)
insert_history = insert_rows(*history.c)


async def list_history(
    connection: AsyncConnection, payment_id: UUID, page: Page
) -> list[tuple[Transition, Kind | None]]:
    """The page's rows of history and one more where there are more, oldest first.

    Each comes with its operation's kind.
    """
    after = page.after[0] if page.after else 0
    parameters = {"payment_id": payment_id, "after": after, "limit": page.size + 1}
    rows = await connection.execute(read_history, parameters)
    return [(TRANSITION.record(row), row.kind) for row in rows]
