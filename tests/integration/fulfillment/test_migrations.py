"""The migrations make exactly the tables that the code declares."""

from sqlalchemy import create_engine, text

from chassis.migration import differences, migrate
from fulfillment_svc.tables import metadata
from tests.support import FreshDatabase

# What the comparison of Alembic does not see: constraints, the predicates of indexes, the values of enums.
CATALOG = """
    select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace
    union all select tablename, indexname, indexdef from pg_indexes where schemaname = 'public'
    union all select enumtypid::regtype::text, enumsortorder::text, enumlabel from pg_enum
"""


def test_the_migrations_make_the_metadata(fresh_database: FreshDatabase) -> None:
    """A migrated database and one made from today's metadata have the same columns, constraints, indexes and enums."""
    migrated, declared = create_engine(fresh_database()), create_engine(fresh_database())
    migrate(migrated.url.render_as_string(hide_password=False), "fulfillment_svc")
    metadata.create_all(declared)
    with migrated.connect() as one, declared.connect() as other:
        assert differences(one, metadata) == []
        made = {tuple(row) for row in one.execute(text(CATALOG)) if row[0] != "alembic_version"}
        assert made == {tuple(row) for row in other.execute(text(CATALOG))}
    migrated.dispose()
    declared.dispose()
