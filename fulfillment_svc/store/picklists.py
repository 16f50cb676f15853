"""The lines of picklists."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows
from fulfillment_svc.model.records import Fulfillment, Line
from fulfillment_svc.tables import lines

LINE = RecordRows(Line, lines.c, keys=["fulfillment_id"])
read_lines = (
    select(lines)
    .where(is_any_of(lines.c.fulfillment_id))
    .order_by(lines.c.fulfillment_id, lines.c.line_number)
)
insert_lines = insert_rows(*lines.c)
update_lines = update_rows(*lines.c)
delete_lines = delete(lines).where(is_any_of(lines.c.fulfillment_id))


async def save_new_lines(connection: AsyncConnection, created: Sequence[Fulfillment]) -> None:
    rows = [LINE.row(line, fulfillment_id=each.id) for each in created for line in each.lines]
    if rows:
        await connection.execute(insert_lines, row_arrays(rows))


async def save_lines(
    connection: AsyncConnection, changed: Sequence[tuple[Fulfillment, Fulfillment]]
) -> None:
    """Stores new counts of lines that stay; whole picklists where the lines themselves differ."""
    counted, replaced = [], []
    for old, new in changed:
        names = [[(line.line_number, line.sku) for line in each.lines] for each in (old, new)]
        if names[0] == names[1]:
            counted += [
                LINE.row(line, fulfillment_id=new.id)
                for was, line in zip(old.lines, new.lines, strict=True)
                if line != was
            ]
        else:
            replaced.append(new)
    if counted:
        await connection.execute(update_lines, row_arrays(counted))
    if replaced:
        await connection.execute(
            delete_lines, column_arrays(fulfillment_id=[each.id for each in replaced])
        )
        await save_new_lines(connection, replaced)
