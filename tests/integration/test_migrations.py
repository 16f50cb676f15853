"""Each service's migrations, on a real PostgreSQL."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from chassis.migration import differences, migrate
from tests.support import FreshDatabase

SERVICES = sorted(path.parent.name for path in Path(__file__).parents[2].glob("*_svc/migrations"))


@pytest.mark.parametrize("service", SERVICES)
def test_the_migrations_make_what_the_tables_declare(
    service: str, fresh_database: FreshDatabase
) -> None:
    """After all migrations the database has exactly the metadata's tables, columns, types,
    indexes and constraints; twice is once.
    """
    url = fresh_database()
    migrate(url, service)
    migrate(url, service)
    metadata = importlib.import_module(f"{service}.tables").metadata
    declared = fresh_database()
    engine, other = create_engine(url), create_engine(declared)
    try:
        with other.begin() as connection:
            metadata.create_all(connection)
        with engine.connect() as one, other.connect() as two:
            assert list(differences(one, metadata)) == []
            assert _rules(one) == _rules(two)
    finally:
        engine.dispose()
        other.dispose()


def test_migrations_at_once_wait_for_each_other(fresh_database: FreshDatabase) -> None:
    """Three replicas that start together migrate once."""
    url = fresh_database()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(migrate, url, "order_svc") for _ in range(3)]:
            done.result()


def _rules(connection: Connection) -> set[tuple[str, ...]]:
    """What Alembic does not compare: checks and keys, indexes with their conditions, the values
    of enums.
    """
    constraints = (
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
        " where connamespace = 'public'::regnamespace"
    )
    indexes = "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public'"
    enums = (
        "select typname, enumsortorder::text, enumlabel from pg_enum join pg_type on pg_type.oid ="
        " enumtypid"
    )
    rows = {
        tuple(row)
        for query in (constraints, indexes, enums)
        for row in connection.execute(text(query))
    }
    return {row for row in rows if not row[0].startswith("alembic_version")}
