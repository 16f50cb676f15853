"""The statement that stores new and changed rows."""

from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import Insert, insert

from chassis.write.tables import unnest_rows


def upsert(table: Table) -> Insert:
    """Rows to come, new ones or in the place of those of the same primary key."""
    new = insert(table).from_select(list(table.c), select(*unnest_rows(*table.c).c))
    changing = {
        column.name: new.excluded[column.name] for column in table.c if not column.primary_key
    }
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changing)
