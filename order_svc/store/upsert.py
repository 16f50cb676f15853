"""Rows that are inserted, or replace the stored ones."""

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import Insert

from chassis.write.tables import insert_rows


def upsert_rows(table: Table) -> Insert:
    """Returns the statement that inserts rows that are parameters. A row whose primary key exists
    replaces the stored one.
    """
    new = insert_rows(*table.c)
    values = {c.name: new.excluded[c.name] for c in table.c if not c.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
